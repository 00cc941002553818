package routing

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Address is an address of the host, and the device with the address.
type Address struct {
	Addr   netip.Addr
	Device string
}

// Addresses returns the addresses of the host.
func (f Facts) Addresses() []Address {
	var all []Address
	for _, a := range f.addrs {
		all = append(all, Address{a.addr, a.device})
	}
	return all
}

// Leaves asks the kernel by which device a packet from an address to a client beyond a router leaves, as "ip route get"
// does. The packet has come in by a device, or is the host's own for "". Without a way Leaves returns "no device".
func Leaves(h *netlink.Handle, from netip.Addr, in string, mark uint32) (string, error) {
	routes, err := h.RouteGetWithOptions(Somewhere(from).AsSlice(), &netlink.RouteGetOptions{SrcAddr: from.AsSlice(), Iif: in, Mark: mark})
	var none unix.Errno // there is no way there, or the way is closed
	if errors.As(err, &none) || err == nil && len(routes) == 0 {
		return "no device", nil
	}
	if err != nil {
		return "", fmt.Errorf("looking up the route from %s: %w", from, err)
	}
	link, err := h.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return "", fmt.Errorf("looking up the device of the route from %s: %w", from, err)
	}
	return cmp.Or(link.Attrs().Name, "no device"), nil
}
