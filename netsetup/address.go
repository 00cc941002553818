package netsetup

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"

	"boxrun/netsetup/dump"
	"boxrun/netsetup/leases"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// FreeAddr returns the lowest free address of n.Subnet for a box. An address is free if no lease holds the address, of
// boxrun's or of any other network (an instance started by hand may sit on the same bridge), if no neighbour on the
// bridge has the address, and if the address is not in taken, the addresses of boxes with the boxes' names. Leases and
// neighbours do not hold the addresses in leaving, as their boxes are on the way out.
//
// If want is valid, FreeAddr returns want, or an error with the name of the holder. The addresses of the network
// itself, of the gateway and of broadcasts are never free. FreeAddr changes nothing; the caller holds the bridge's
// lock until the address is in use.
func FreeAddr(n Network, want netip.Addr, taken map[netip.Addr]string, leaving ...netip.Addr) (netip.Addr, error) {
	return freeAddr(n, want, taken, leaving, n.leaseDirs()...)
}

// leaseDirs returns the directories with leases of addresses of the network.
func (n Network) leaseDirs() []string {
	return append([]string{filepath.Join(n.Dir, "leases"), leases.CNI}, n.Others...)
}

// RefuseMove says why boxrun publishes no ports at an address a box has given itself, or returns nil. RefuseMove
// accepts the addresses FreeAddr would give the box. link is where the box is now, and taken has the addresses of the
// other boxes. pid and owner are the holders named in leases of the box itself.
func RefuseMove(n Network, link Link, pid int, owner string, taken map[netip.Addr]string) error {
	addr := link.Addr.Addr()
	held, err := heldAddrs(n, n.leaseDirs(), link.VethIndex)
	if err != nil {
		return fmt.Errorf("looking at the box's new address %v: %w", addr, err)
	}
	if c, ok := held[addr]; ok && c.lease != "" {
		holder, err := leases.Lease{Path: c.lease}.Owner()
		if err == nil && (leases.PID(holder) == pid || holder == owner) {
			delete(held, addr)
		}
	}
	if box, ok := taken[addr]; ok {
		held[addr] = claim{box: box}
	}
	local, err := LocalAddrs()
	if err == nil && slices.Contains(local, addr) && addr != n.Gateway() {
		err = fmt.Errorf("address %v is the host's own", addr)
	}
	return cmp.Or(err, refuseAddr(n, addr, held))
}

func freeAddr(n Network, want netip.Addr, taken map[netip.Addr]string, leaving []netip.Addr,
	leaseDirs ...string,
) (netip.Addr, error) {
	held, err := heldAddrs(n, leaseDirs, 0)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("looking for a free address on %s: %w", n.Bridge, err)
	}
	for _, a := range leaving {
		delete(held, a)
	}
	for a, box := range taken {
		held[a] = claim{box: box}
	}
	if want.IsValid() {
		return want, refuseAddr(n, want, held)
	}
	for a := n.Gateway().Next(); n.Subnet.Contains(a.Next()); a = a.Next() {
		if _, ok := held[a]; !ok {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("no address of %v is free for another box on %s", n.Subnet, n.Bridge)
}

// refuseAddr says why a box may not have an address, or nil.
func refuseAddr(n Network, want netip.Addr, held map[netip.Addr]claim) error {
	by, taken := held[want]
	switch {
	case !n.Subnet.Contains(want):
		return fmt.Errorf("address %v is outside %v, the subnet of %s", want, n.Subnet, n.Bridge)
	case want == n.Subnet.Addr():
		return fmt.Errorf("address %v stands for the whole subnet %v", want, n.Subnet)
	case want == n.Gateway():
		return fmt.Errorf("address %v is the bridge's own", want)
	case !n.Subnet.Contains(want.Next()):
		return fmt.Errorf("address %v is the broadcast address of %v", want, n.Subnet)
	case taken:
		return fmt.Errorf("address %v is taken by %v", want, by)
	}
	return nil
}

// claim is what speaks for an address being in use: a box of the caller's, a lease, or a neighbour.
type claim struct {
	box       string // name
	lease     string // path
	neighbour net.HardwareAddr
}

// String names the holder, in words for after "taken by".
func (c claim) String() string {
	switch {
	case c.box != "":
		return fmt.Sprintf("box %q", c.box)
	case c.neighbour != nil:
		return fmt.Sprintf("a neighbour with MAC address %v", c.neighbour)
	}
	owner, err := leases.Lease{Path: c.lease}.Owner()
	switch {
	case err != nil || owner == "":
		return "the lease " + c.lease
	case leases.PID(owner) == 0:
		return fmt.Sprintf("container %s (lease %s)", owner, c.lease)
	}
	return fmt.Sprintf("the box with process %s (lease %s)", owner, c.lease)
}

// heldAddrs returns the addresses that leases and neighbours hold. Neighbours behind the port of the bridge with the
// index but do not count.
func heldAddrs(n Network, leaseDirs []string, but int) (map[netip.Addr]claim, error) {
	held, err := neighbours(n, but)
	if err != nil {
		return nil, err
	}
	found, err := leases.Below(leaseDirs...)
	for _, l := range found {
		held[l.Addr] = claim{lease: l.Path}
	}
	return held, err
}

// neighbours returns the addresses in use on the bridge, as far as the kernel has noticed. A bridge that does not
// exist has none.
//
// The kernel remembers a neighbour long after the neighbour is gone: as reachable for half a minute, as stale for ever
// on a quiet host (gc_thresh1). So a learnt entry counts only while the bridge knows a port for the MAC address. The
// bridge forgets the MAC address together with the port. Otherwise a box could not come back to its own fixed address.
// MAC addresses of the port with the index but do not count.
func neighbours(n Network, but int) (map[netip.Addr]claim, error) {
	h := dump.OfHost()
	held := map[netip.Addr]claim{}
	bridge, err := h.LinkByName(n.Bridge)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return held, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading bridge %q: %w", n.Bridge, err)
	}
	entries, err := dump.Neighs(h, bridge.Attrs().Index, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("listing neighbours: %w", err)
	}
	known, err := learntMACs(h, bridge.Attrs().Index, but)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		fixed := e.State&(unix.NUD_PERMANENT|unix.NUD_NOARP) != 0
		learnt := e.State&(unix.NUD_REACHABLE|unix.NUD_STALE|unix.NUD_DELAY|unix.NUD_PROBE) != 0
		if fixed || learnt && known[e.HardwareAddr.String()] {
			held[dump.AddrOf(e.IP)] = claim{neighbour: e.HardwareAddr}
		}
	}
	return held, nil
}

// learntMACs returns the MAC addresses a bridge knows a port for, other than the port with the index but.
func learntMACs(h *netlink.Handle, bridge, but int) (map[string]bool, error) {
	entries, err := dump.Neighs(h, 0, unix.AF_BRIDGE)
	if err != nil {
		return nil, fmt.Errorf("listing the bridge's forwarding table: %w", err)
	}
	known := map[string]bool{}
	for _, e := range entries {
		if e.MasterIndex == bridge && e.LinkIndex != but {
			known[e.HardwareAddr.String()] = true
		}
	}
	return known, nil
}
