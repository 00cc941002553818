package dump

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Links returns all links.
func Links(h *netlink.Handle) ([]netlink.Link, error) {
	return Retry(h.LinkList)
}

// Names returns the names of links by their indexes.
func Names(links []netlink.Link) map[int]string {
	names := map[int]string{}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	return names
}

// Addrs returns the addresses of link; nil stands for all links.
func Addrs(h *netlink.Handle, link netlink.Link, family int) ([]netlink.Addr, error) {
	return Retry(func() ([]netlink.Addr, error) { return h.AddrList(link, family) })
}

// Routes returns the routes that match filter in the fields of mask (netlink.RT_FILTER_*). With mask 0 they are the
// routes of the main table, with RT_FILTER_TABLE and a zero Table the routes of every table.
func Routes(h *netlink.Handle, family int, filter *netlink.Route, mask uint64) ([]netlink.Route, error) {
	return Retry(func() ([]netlink.Route, error) { return h.RouteListFiltered(family, filter, mask) })
}

// DefaultRoutes returns the default routes of the main table in a family.
func DefaultRoutes(h *netlink.Handle, family int) ([]netlink.Route, error) {
	routes, err := Routes(h, family, &netlink.Route{}, 0)
	return slices.DeleteFunc(routes, func(r netlink.Route) bool { return PrefixOf(r.Dst).Bits() > 0 }), err
}

// Gateway returns the router of a route or of a part of one, of either family: IPv4 may go by a router of IPv6 (RFC 5549).
// The result for a route without a router is the zero Addr.
func Gateway(gw net.IP, via netlink.Destination) netip.Addr {
	if v, ok := via.(*netlink.Via); ok && v != nil {
		gw = v.Addr
	}
	return AddrOf(gw)
}

// Neighs returns the neighbours on a link; linkIndex 0 stands for all links. With family AF_BRIDGE Neighs returns what
// bridges have learnt of their ports.
func Neighs(h *netlink.Handle, linkIndex, family int) ([]netlink.Neigh, error) {
	return Retry(func() ([]netlink.Neigh, error) { return h.NeighList(linkIndex, family) })
}

// tries bounds how often an interrupted dump is asked for again. A single retry is nearly always enough; a host
// that starts fifty containers at once needs more.
const tries = 10

// Retry asks again while the kernel says that its list changed as it was read: entries may be missing from such a list.
func Retry[T any](ask func() (T, error)) (answer T, err error) {
	for range tries {
		if answer, err = ask(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return answer, err
}

// PrefixOf converts a network. The result for nil, and for a mask with holes, is the zero Prefix.
func PrefixOf(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	ones, bits := n.Mask.Size()
	if !ok || bits == 0 {
		return netip.Prefix{}
	}
	addr = addr.Unmap()
	return netip.PrefixFrom(addr, ones-bits+addr.BitLen())
}

// IPNet converts a prefix as PrefixOf does the other way; nil for the zero Prefix.
func IPNet(p netip.Prefix) *net.IPNet {
	if !p.IsValid() {
		return nil
	}
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// Without returns the elements of list that other lacks, in their order.
func Without[T comparable](list, other []T) []T {
	return slices.DeleteFunc(slices.Clone(list), func(v T) bool { return slices.Contains(other, v) })
}

// OfHost returns a handle for links, addresses, routes, neighbours and tracked connections of the caller's network
// namespace. The handle opens a socket for each request, so there is nothing to close.
func OfHost() *netlink.Handle { return &netlink.Handle{} }

// Kept returns a handle like that of OfHost, which keeps one socket for all requests on links, addresses, routes and
// neighbours. The socket stays in the network of the calling thread. Close the handle after use.
func Kept() (*netlink.Handle, error) { return Open(netns.None()) }

// Open returns a handle for links, addresses, routes and neighbours of the network namespace ns. Close the handle
// after use. The library enters ns only to open the socket, on a locked thread, and leaves at once.
func Open(ns netns.NsHandle) (*netlink.Handle, error) {
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("opening a netlink socket: %w", err)
	}
	return h, nil
}
