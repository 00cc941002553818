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
	"boxrun/launcher/list"
	"boxrun/netsetup"
	"boxrun/netsetup/dump"
	"boxrun/netsetup/lan"
)

// Device returns the name of the device inside a box, as Apptainer names the first, and the second beside a bridge.
func Device(b *box.Box) string {
	if b.OnBoth() {
		return "eth1"
	}
	return "eth0"
}

// WayTo returns the host's way to a box, to the addresses on record. A host without an address on the LAN does not know which
// addresses the LAN lends: no way leads to an address given by the box to itself. Of those of IPv6 that the box has learnt, no
// way leads to one that the LAN of the host does not lend: such an address is of another network on the same wire.
func WayTo(b *box.Box) (lan.Way, error) {
	parent, err := lan.LookParent(b.Parent)
	way := lan.Way{Parent: b.Parent, MAC: stableMAC("mac of the way to boxes on " + b.Parent)}
	n := b.Profile.Network
	for _, addr := range b.LANAddrs() {
		named := addr == n.Address.Addr() || addr == n.Address6.Addr()
		lent := addr.Is4() && len(parent.Of(addr)) > 0 || addr.Is6() && parent.Lends(addr)
		if named || lent {
			way.Ends = append(way.Ends, lan.End{Box: addr, Host: parent.Host(addr)})
		}
	}
	return way, err
}

// Foresee notes in a box that starts the device of the LAN and the addresses of the profile there. In a box elsewhere, none.
func Foresee(b *box.Box, parent string) {
	n := b.Profile.Network
	b.Parent, *b.LANAddr(), b.LAN6 = parent, n.Address.Addr(), nil
	if n.Address6.IsValid() {
		b.LAN6 = []netip.Addr{n.Address6.Addr()}
	}
}

// Follow looks up what addresses the box has, and leads the host there, and no longer to where the box was. In a box that is
// on a bridge as well, Follow leads the answers. The error is ErrNoAddress where the address of the profile is not there: the
// box has taken it away.
func Follow(s *box.Store, k *netsetup.Kernel, b *box.Box) error {
	now, err := present(b)
	if err != nil {
		return err
	}
	left := ways([]*box.Box{b})[0]
	if !now.are(b) {
		*b.LANAddr(), b.LAN6 = now.four, now.six
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
	left.Ends = slices.DeleteFunc(left.Ends, func(e lan.End) bool { return way.Has(e.Box) })
	return cmp.Or(way.Ensure(), left.Leave(), tellHosts(b), leadAnswers(b))
}

// addresses are those of a box on the LAN. Four is zero while a DHCP client in the box has none yet.
type addresses struct {
	four netip.Addr
	six  []netip.Addr
}

// are reports whether these are the addresses on record.
func (a addresses) are(b *box.Box) bool { return a.four == *b.LANAddr() && slices.Equal(a.six, b.LAN6) }

// most is how many addresses of IPv6 of a box the host leads to. A box may give itself any number.
const most = 16

// present returns the addresses that the box has now.
func present(b *box.Box) (now addresses, err error) {
	have, err := lan.Inside(b.Init.PID, Device(b))
	if err != nil {
		return now, err
	}
	for _, want := range []netip.Prefix{b.Profile.Network.Address, b.Profile.Network.Address6} {
		if want.IsValid() && !slices.Contains(have, want) {
			return now, &fault.Problem{Kind: netsetup.ErrNoAddress,
				Text: fmt.Sprintf("%s lacks its address %s on %s inside", b.Name, want, Device(b)),
				Hint: fmt.Sprintf("\"boxrun restart %s\" gives it back", b.Name)}
		}
	}
	for _, p := range have {
		if p.Addr().Is6() && len(now.six) < most {
			now.six = append(now.six, p.Addr())
		}
	}
	slices.SortFunc(now.six, netip.Addr.Compare) // the kernel's order changes with each advertisement
	switch want := b.Profile.Network.Address; {
	case want.IsValid():
		now.four = want.Addr()
	case len(have) > 0 && have[0].Addr().Is4():
		now.four, err = lent(b, have[0].Addr())
	}
	return now, err
}

// lent returns the IPv4 address that a box has given itself. An address that the LAN does not lend is an ErrNoAddress: the host
// would send the box what is meant for others. So is one that the box would look for on its bridge. A host without an address on
// the LAN sends nothing there.
func lent(b *box.Box, addr netip.Addr) (netip.Addr, error) {
	parent, err := lan.LookParent(b.Parent)
	onBridge := b.OnBoth() && b.Profile.Network.Subnet.Contains(addr)
	if err == nil && (onBridge || len(parent.Of(addr)) > 0 && !parent.Lends(addr)) {
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
	if now.four != *b.LANAddr() {
		return []string{moved(*b.LANAddr(), now.four)}, nil
	}
	managed, managedErr := netsetup.UnmanagedWay(way.Device()).Drift(k)
	drift, err := way.Drift()
	told, toldErr := hostsDrift(b)
	answers, answersErr := answersOf(b)
	return slices.Concat(moved6(b.LAN6, now.six), managed, drift, told, answers.Lines()), cmp.Or(managedErr, err, toldErr, answersErr)
}

// moved6 returns a line for each address of IPv6 that the box has got, or has no longer.
func moved6(was, now []netip.Addr) []string {
	gone := list.Map(dump.Without(was, now), func(a netip.Addr) string { return moved(a, netip.Addr{}) })
	return append(gone, list.Map(dump.Without(now, was), func(a netip.Addr) string { return moved(netip.Addr{}, a) })...)
}

// moved is the line for a box at another address than the way leads to.
func moved(was, now netip.Addr) string {
	switch {
	case !now.IsValid():
		return fmt.Sprintf("the box had the address %s, and has it no longer", was)
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
			ends := list.Map(b.LANAddrs(), func(a netip.Addr) lan.End { return lan.End{Box: a} })
			needed = append(needed, lan.Way{Parent: b.Parent, Ends: ends})
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
	way, err := typedWay(b, "$PID")
	return append(way, answers...), err
}

func typedWay(b *box.Box, pid string) ([]string, error) {
	way, err := WayTo(b)
	if err != nil {
		return nil, err
	}
	hosts, err := hostsOf(b, way.MAC)
	return slices.Concat(netsetup.UnmanagedWay(way.Device()).Commands(), way.Commands(), hosts.Commands(pid)), err
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
	pid := strconv.Itoa(b.Init.PID)
	way, err := typedWay(b, pid)
	return append(way, answers.Commands(pid)...), err
}

// TypedUndo returns what a person would type for a box that goes, beside others.
func TypedUndo(b *box.Box, others []*box.Box) []string {
	if !b.OnLAN() {
		return nil
	}
	way := ways([]*box.Box{b})[0]
	if slices.ContainsFunc(ways(others), func(w lan.Way) bool { return w.Parent == b.Parent }) {
		return way.UndoCommands(false)
	}
	return append(way.UndoCommands(true), netsetup.UnmanagedWay(way.Device()).UndoCommands()...)
}
