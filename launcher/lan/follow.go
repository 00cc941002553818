package lan

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/netsetup"
	"boxrun/netsetup/lan"
)

// Device returns the name of the device inside a box, as Apptainer names the first, and the second beside a bridge.
func Device(b *box.Box) string {
	if b.OnBoth() {
		return "eth1"
	}
	return "eth0"
}

// WayTo returns the host's way to a box, to the address on record. A host without an address on the LAN does not know which
// addresses the LAN lends: no way leads to an address given by the box to itself.
func WayTo(b *box.Box) (lan.Way, error) {
	parent, err := lan.LookParent(b.Parent)
	way := lan.Way{Parent: b.Parent, MAC: stableMAC("mac of the way to boxes on " + b.Parent), Box: *b.LANAddr(), Host: parent.Host(*b.LANAddr())}
	if len(parent.Addrs) == 0 && !b.Profile.Network.Address.IsValid() {
		way.Box = netip.Addr{}
	}
	return way, err
}

// Follow looks up what address the box has, and leads the host there, and no longer to where the box was. In a box that is on
// a bridge as well, Follow leads the answers. The error is ErrNoAddress where the address of the profile is not there: the box
// has taken it away.
func Follow(s *box.Store, k *netsetup.Kernel, b *box.Box) error {
	addr, err := present(b)
	if err != nil {
		return err
	}
	left := lan.Way{Parent: b.Parent, Box: *b.LANAddr()}
	if addr != *b.LANAddr() {
		*b.LANAddr() = addr
		if err := s.Save(b); err != nil {
			return err
		}
	}
	way, err := WayTo(b)
	if err == nil {
		err = netsetup.UnmanagedWay(way.Device()).Apply(k) // before managers can take the device
	}
	if err != nil {
		return err
	}
	if left.Box == way.Box {
		left.Box = netip.Addr{}
	}
	return cmp.Or(way.Ensure(), left.Leave(), leadAnswers(b))
}

// present returns the address that the box has now; zero while a DHCP client in the box has none yet.
func present(b *box.Box) (netip.Addr, error) {
	have, err := lan.Inside(b.Init.PID, Device(b))
	want := b.Profile.Network.Address
	switch {
	case err != nil:
		return netip.Addr{}, err
	case want.IsValid() && !slices.Contains(have, want):
		return netip.Addr{}, &fault.Problem{Kind: netsetup.ErrNoAddress,
			Text: fmt.Sprintf("%s lacks its address %s on %s inside", b.Name, want, Device(b)),
			Hint: fmt.Sprintf("\"boxrun restart %s\" gives it back", b.Name)}
	case want.IsValid():
		return want.Addr(), nil
	case len(have) == 0:
		return netip.Addr{}, nil
	}
	return lent(b, have[0].Addr())
}

// lent returns the address that a box has given itself. An address that the LAN does not lend is an ErrNoAddress: the host
// would send the box what is meant for others. So is one that the box would look for on its bridge. A host without an address on
// the LAN sends nothing there.
func lent(b *box.Box, addr netip.Addr) (netip.Addr, error) {
	parent, err := lan.LookParent(b.Parent)
	onBridge := b.OnBoth() && b.Profile.Network.Subnet.Contains(addr)
	if err == nil && (onBridge || len(parent.Addrs) > 0 && !parent.Lends(addr)) {
		err = &fault.Problem{Kind: netsetup.ErrNoAddress,
			Text: fmt.Sprintf("%s has given itself the address %s, which the LAN of %s does not lend", b.Name, addr, b.Parent),
			Hint: "name the address of the box as network.address, or see what its DHCP client was given"}
	}
	return addr, err
}

// Drift returns a line for each thing out of place of a box on the LAN.
func Drift(k *netsetup.Kernel, b *box.Box) ([]string, error) {
	now, err := present(b)
	if err != nil {
		return nil, err
	}
	way, err := WayTo(b)
	if err != nil {
		return nil, err
	}
	if now != *b.LANAddr() {
		return []string{moved(*b.LANAddr(), now)}, nil
	}
	managed, managedErr := netsetup.UnmanagedWay(way.Device()).Drift(k)
	drift, err := way.Drift()
	answers, answersErr := answersOf(b)
	return slices.Concat(managed, drift, answers.Lines()), cmp.Or(managedErr, err, answersErr)
}

// moved is the line for a box at another address than the way leads to.
func moved(was, now netip.Addr) string {
	switch {
	case !now.IsValid():
		return fmt.Sprintf("the box had the address %s, and has none now", was)
	case !was.IsValid():
		return fmt.Sprintf("the box has got the address %s, to which the host does not lead yet", now)
	}
	return fmt.Sprintf("the box is at %s, the host leads to %s", now, was)
}

// Repair repairs the host's way to a box, and returns a line for each fault; none for a box elsewhere.
func Repair(s *box.Store, k *netsetup.Kernel, b *box.Box) ([]string, error) {
	if !b.OnLAN() {
		return nil, nil
	}
	drift, err := Drift(k, b)
	if err != nil || len(drift) == 0 {
		return nil, err
	}
	return drift, Follow(s, k, b)
}

// Sweep takes away the ways on the host that none of boxes needs, and returns a line for each.
func Sweep(k *netsetup.Kernel, boxes []*box.Box) ([]string, error) {
	needed := ways(boxes)
	swept, err := lan.Sweep(needed)
	errs := []error{err}
	for _, device := range netsetup.UnmanagedWays() {
		if !slices.ContainsFunc(needed, func(w lan.Way) bool { return w.Device() == device }) {
			errs = append(errs, netsetup.UnmanagedWay(device).Undo(k))
		}
	}
	return swept, errors.Join(errs...)
}

// ways returns the ways to boxes, for their devices and addresses.
func ways(boxes []*box.Box) []lan.Way {
	var needed []lan.Way
	for _, b := range boxes {
		if b.OnLAN() {
			needed = append(needed, lan.Way{Parent: b.Parent, Box: *b.LANAddr()})
		}
	}
	return needed
}

// Typed returns what a person would type for the way to a box that starts, where PID is the variable with the box's init.
func Typed(b *box.Box) ([]string, error) {
	if !b.OnLAN() {
		return nil, nil
	}
	answers, err := answersForeseen(b)
	if err != nil {
		return nil, err
	}
	way, err := typedWay(b)
	return append(way, answers...), err
}

func typedWay(b *box.Box) ([]string, error) {
	way, err := WayTo(b)
	return append(netsetup.UnmanagedWay(way.Device()).Commands(), way.Commands()...), err
}

// TypedRepair returns what a person would type for the repair of a running box.
func TypedRepair(k *netsetup.Kernel, b *box.Box) ([]string, error) {
	if !b.OnLAN() {
		return nil, nil
	}
	drift, err := Drift(k, b)
	if err != nil || len(drift) == 0 {
		return nil, err
	}
	answers, err := answersOf(b)
	if err != nil {
		return nil, err
	}
	way, err := typedWay(b)
	return append(way, answers.Commands(strconv.Itoa(b.Init.PID))...), err
}

// TypedUndo returns what a person would type for a box that goes, beside others.
func TypedUndo(b *box.Box, others []*box.Box) []string {
	if !b.OnLAN() {
		return nil
	}
	way := lan.Way{Parent: b.Parent, Box: *b.LANAddr()}
	if slices.ContainsFunc(ways(others), func(w lan.Way) bool { return w.Parent == b.Parent }) {
		return way.UndoCommands(false)
	}
	return append(way.UndoCommands(true), netsetup.UnmanagedWay(way.Device()).UndoCommands()...)
}
