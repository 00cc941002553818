package netsetup

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ForgetNeighbour makes the host ask anew who has addr on the bridge. A box started again gets its address back, but
// not its MAC. While the host has other traffic on the bridge, the host would send to the old MAC for as long as the
// entry counts as reachable. Without such an entry, or without the bridge, ForgetNeighbour returns nil.
func (k *Kernel) ForgetNeighbour(bridge string, addr netip.Addr) error {
	link, err := k.linkByName(bridge)
	if err != nil || link == nil {
		return err
	}
	err = k.link.NeighDel(&netlink.Neigh{LinkIndex: link.Attrs().Index, Family: familyOf(addr).inet(), IP: addr.AsSlice()})
	if ignore(err, unix.ENOENT) != nil {
		return fmt.Errorf("forgetting neighbour %s on %s: %w", addr, bridge, err)
	}
	return nil
}
