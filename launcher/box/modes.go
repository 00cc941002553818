package box

import (
	"cmp"
	"context"
	"net/netip"
	"os"
	"strings"

	"boxrun/launcher/apptainer"
	"boxrun/launcher/fault"
	"boxrun/launcher/list"
	"boxrun/launcher/process"
	"boxrun/netsetup"
	"boxrun/profiles"
	"boxrun/profiles/port"
)

// Comments elsewhere about a box's network describe a box behind a bridge. This file has the differences for a box on a
// LAN of the host, for a box in the host's own network, and for a box without a network.

// Bridged reports whether the box is on a bridge. Only a box on a bridge has rules, and needs the host's network set up.
func (b *Box) Bridged() bool { return b.Profile.Network.Mode == profiles.BridgeMode }

// OnLAN reports whether the box is on a LAN of the host, as its only network or beside a bridge.
func (b *Box) OnLAN() bool { return b.Profile.Network.OnLAN() }

// OnBoth reports whether the box is on a bridge and on a LAN at once.
func (b *Box) OnBoth() bool { return b.Bridged() && b.OnLAN() }

// LANAddr is where the box has the address on the LAN: zero while there is none.
func (b *Box) LANAddr() *netip.Addr {
	if b.Bridged() {
		return &b.Second
	}
	return &b.Addr
}

// Where describes how the box is connected, for text after "started".
func (b *Box) Where() string {
	switch b.Profile.Network.Mode {
	case profiles.HostMode:
		return "in the host's network"
	case profiles.NoneMode:
		return "without a network"
	case profiles.LANMode:
		return b.WhereOnLAN()
	}
	if b.OnLAN() {
		return "at " + b.Addr.String() + " and " + b.WhereOnLAN()
	}
	return "at " + b.Addr.String()
}

// WhereOnLAN describes how the box is connected to a LAN.
func (b *Box) WhereOnLAN() string {
	if all := b.LANAddrs(); len(all) > 0 {
		return "at " + strings.Join(list.Map(all, netip.Addr.String), " and ") + " on the LAN of " + b.Parent
	}
	return "on the LAN of " + b.Parent + ", without an address yet"
}

// LANAddrs returns the addresses of the box on the LAN, that of IPv4 first.
func (b *Box) LANAddrs() []netip.Addr {
	if four := *b.LANAddr(); b.OnLAN() && four.IsValid() {
		return append([]netip.Addr{four}, b.LAN6...)
	}
	return b.LAN6
}

// ShownAddress returns the text for a column of addresses: the mode's name if the box has no address of its own.
func (b *Box) ShownAddress() string {
	switch {
	case b.Addr.IsValid() && (b.Bridged() || b.OnLAN()):
		return b.Addr.String()
	case !b.Bridged() && len(b.LAN6) == 0:
		return b.Profile.Network.Mode
	}
	return ""
}

// ShownSecond returns the text for the box's address on a LAN beside its bridge, "" for none.
func (b *Box) ShownSecond() string {
	if b.Second.IsValid() {
		return b.Second.String()
	}
	return ""
}

// ShownAddress6 returns the text for the box's IPv6 address, "" for none.
func (b *Box) ShownAddress6() string {
	if a := b.Addr6(); a.IsValid() {
		return a.String()
	}
	return ""
}

// ShownLAN6 returns the texts for the box's IPv6 addresses on a LAN.
func (b *Box) ShownLAN6() []string { return list.Map(b.LAN6, netip.Addr.String) }

// ShownPort returns the text for a column of ports. In the host's network nothing is forwarded, so only the box's port
// is shown.
func (b *Box) ShownPort(p port.Port) string {
	if b.Bridged() {
		return p.String()
	}
	_, inside, _ := strings.Cut(p.String(), "->")
	if p.HostIP.IsValid() {
		return p.HostIP.String() + ":" + inside
	}
	return inside
}

// ReadyAddr returns the address at which the host looks for the box's ports. In the host's own network this is an
// address of the host other than 127.0.0.1, if there is any: a server listening on 127.0.0.1 alone is out of reach for
// all others.
func (b *Box) ReadyAddr() (netip.Addr, error) {
	if b.Profile.Network.Mode == profiles.LANMode && len(b.LANAddrs()) > 0 {
		return b.LANAddrs()[0], nil
	}
	if b.Profile.Network.Mode != profiles.HostMode {
		return b.Addr, nil
	}
	external, err := netsetup.DefaultExternal()
	local, localErr := netsetup.LocalAddrs()
	if err := cmp.Or(err, localErr); err != nil {
		return netip.Addr{}, err
	}
	for _, addr := range append(external.Addrs, local...) {
		if addr.Is4() && !addr.IsLoopback() {
			return addr, nil
		}
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1}), nil
}

// Holds reports whether a process lives in the box. In the host's network, the box's listeners are the host's too. A
// nil box holds no process.
func (b *Box) Holds(pid int) bool {
	if b == nil || pid == 0 || !b.Alive() {
		return false
	}
	theirs, err := os.Readlink(process.ProcFile(pid, "ns/pid"))
	ours, ourErr := os.Readlink(process.ProcFile(b.Init.PID, "ns/pid"))
	return err == nil && ourErr == nil && ours == theirs // an error: one of them has just ended
}

// RefuseHostMode refuses the host mode if Apptainer is too old to join a namespace, or if boxrun runs in another
// network than the host's. Only this mode pays for asking Apptainer's version.
func RefuseHostMode(ctx context.Context, p profiles.Profile) error {
	if p.Network.Mode != profiles.HostMode {
		return nil
	}
	version, err := apptainer.Version(ctx)
	if err != nil {
		return err
	}
	if apptainer.TooOld(version) {
		return fault.Refused("install Apptainer 1.4 or newer, or use network.mode = \"bridge\"",
			"%s: network.mode: \"host\" needs Apptainer 1.4, this is %s", p.File, version)
	}
	ours, err := os.Readlink("/proc/self/ns/net")
	theirs, theirErr := os.Readlink(apptainer.HostNetns)
	if err := cmp.Or(err, theirErr); err != nil || ours == theirs {
		return err
	}
	return fault.Refused("run boxrun in the host's own network namespace",
		"%s: network.mode: \"host\" is the network of process 1, and boxrun runs in another", p.File)
}
