package doctor

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"boxrun/launcher/network"
	"boxrun/netsetup/offload"
	"boxrun/netsetup/transfer"
)

// directions says of both directions of a box's packets whether something is so.
type directions struct{ in, out bool }

// off returns the directions in which nothing is to be left to devices.
func (b boxLooks) off() (directions, error) {
	mode := offload.Mode(b.Profile.Network.Offload)
	need, err := network.NeedOf(b.Profile.Network)
	return directions{in: mode.In() || len(need.In) > 0, out: mode.Out() || len(need.Out) > 0}, err
}

// unsummed judges the checksums of a transfer, and says whether there is anything to be told of them. To leave checksums
// to devices is no fault by itself: what shows a fault is that the bytes do not come, or that a packet has neither its
// checksum nor the kernel's note that one is to be made.
func (b boxLooks) unsummed(r transfer.Result, off directions) (Check, bool) {
	const why = "a device, or a program between, drops packets whose checksums were left to devices, or spoils them"
	switch {
	case r.Out.Wrong > 0:
		return fail(why, b.summed(directions{off.in, true}), "%d of %d packets out of the box arrive with a wrong checksum", r.Out.Wrong, r.Out.Packets()), true
	case r.In.Wrong > 0:
		return fail(why, b.summed(directions{true, off.out}), "%d of %d packets into the box arrive with a wrong checksum", r.In.Wrong, r.In.Packets()), true
	case r.Noted:
		return fail(why, b.summed(directions{off.in, true}), "packets out of the box do not arrive, but for those that need no checksum"), true
	case hung(r.Err) && r.In.Unfinished > 0:
		return fail(why, b.summed(directions{true, off.out}), "a connection opened and then hung: %d of %d packets into the box have no checksum yet, and are not taken",
			r.In.Unfinished, r.In.Packets()), true
	case off.out && r.Out.Unfinished > 0, off.in && r.In.Unfinished > 0:
		return fail(why, network.RepairCommand, "packets without a checksum, in spite of network.offload or an uplink that needs it: %d out of the box, %d into the box",
			r.Out.Unfinished, r.In.Unfinished), true
	}
	return Check{}, false
}

// hung reports whether a transfer ended because nothing came any more.
func hung(err error) bool {
	var timed net.Error
	return errors.As(err, &timed) && timed.Timeout()
}

// setOffload begins the fix by summed.
const setOffload = "set network.offload = "

// fixOfChecksums returns the fix by summed among the checks of a box; "" for none.
func fixOfChecksums(checks []Check, box string) string {
	i := slices.IndexFunc(checks, func(c Check) bool { return c.Area == box && strings.HasPrefix(c.Fix, setOffload) })
	if i < 0 {
		return ""
	}
	return checks[i].Fix
}

// summed is the fix that has packets of the given directions get their checksums on the host.
func (b boxLooks) summed(off directions) string {
	mode := offload.Off
	switch {
	case off.in && off.out:
		mode = offload.OffBoth
	case off.out:
		mode = offload.OffOut
	}
	file := b.Profile.File
	if strings.HasPrefix(file, "builtin:") {
		file = "a profile of your own"
	}
	return fmt.Sprintf(setOffload+"%q in %s, and boxrun restart %s", mode, file, b.Name)
}
