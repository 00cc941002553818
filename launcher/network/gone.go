package network

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"boxrun/launcher/box"
	"boxrun/launcher/process"
	"boxrun/netsetup/dump"
	"boxrun/netsetup/leases"
)

// goneTimeout is how long the kernel may take to take a network away whose last process has ended.
const goneTimeout = 3 * time.Second

// AwaitGone waits, for goneTimeout at most, until nothing is left of the network of a box whose start was cut short, and collects
// its lease. Somebody may have killed Apptainer: then the process that has the lease is there until it is waited for, and the
// veth until the kernel takes away the network of that process, a moment later. A bridge with a veth would stay.
func AwaitGone(ctx context.Context, s *box.Store, b *box.Box) error {
	if !b.Bridged() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, goneTimeout)
	defer cancel()
	for {
		CollectLeases(s)
		held, err := isHeld(s, b)
		if err != nil || !held || process.Sleep(ctx, 10*time.Millisecond) != nil {
			return err
		}
	}
}

// isHeld reports whether a process has a lease for the address of a box, or a veth on the bridge of the box is no other box's.
func isHeld(s *box.Store, b *box.Box) (bool, error) {
	leased, err := leases.Below(s.Path("leases"))
	if err != nil || slices.ContainsFunc(leased, func(l leases.Lease) bool { return l.Addr == b.Addr }) {
		return err == nil, err
	}
	others, err := s.Others(b.Name)
	if err != nil {
		return false, err
	}
	links, err := dump.Links(dump.OfHost())
	bridge := slices.IndexFunc(links, func(l netlink.Link) bool { return l.Attrs().Name == b.Profile.Network.Bridge })
	if err != nil || bridge < 0 {
		return false, err
	}
	return slices.ContainsFunc(links, func(l netlink.Link) bool {
		isOthers := func(other *box.Box) bool { return other.Veth == l.Attrs().Name }
		return l.Attrs().MasterIndex == links[bridge].Attrs().Index && strings.HasPrefix(l.Attrs().Name, "veth") && !slices.ContainsFunc(others, isOthers)
	}), nil
}
