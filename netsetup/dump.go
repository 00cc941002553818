package netsetup

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// dumpTries bounds how often an interrupted dump is asked for again. A single retry is nearly always enough; a host
// that starts fifty containers at once needs more.
const dumpTries = 10

// linkList returns all links.
func linkList(h *netlink.Handle) ([]netlink.Link, error) {
	return dump(h.LinkList)
}

// namesOf returns the names of links by their indexes.
func namesOf(links []netlink.Link) map[int]string {
	names := map[int]string{}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	return names
}

// addrList returns the addresses of link; nil stands for all links.
func addrList(h *netlink.Handle, link netlink.Link, family int) ([]netlink.Addr, error) {
	return dump(func() ([]netlink.Addr, error) { return h.AddrList(link, family) })
}

// routeList returns the routes that match filter in the fields of mask (netlink.RT_FILTER_*). With mask 0 they are the
// routes of the main table, with RT_FILTER_TABLE and a zero Table the routes of every table.
func routeList(h *netlink.Handle, family int, filter *netlink.Route, mask uint64) ([]netlink.Route, error) {
	return dump(func() ([]netlink.Route, error) { return h.RouteListFiltered(family, filter, mask) })
}

// ruleList returns the routing rules. A kernel without the family, or without such rules, has none.
func ruleList(h *netlink.Handle, family int) ([]netlink.Rule, error) {
	list, err := dump(func() ([]netlink.Rule, error) { return h.RuleList(family) })
	return list, ignore(err, unix.EOPNOTSUPP)
}

// defaultRoutes returns the IPv4 default routes of the main table.
func defaultRoutes(h *netlink.Handle) ([]netlink.Route, error) {
	routes, err := routeList(h, netlink.FAMILY_V4, &netlink.Route{}, 0)
	return slices.DeleteFunc(routes, func(r netlink.Route) bool { return prefixOf(r.Dst).Bits() > 0 }), err
}

// neighList returns the neighbours on a link; linkIndex 0 stands for all links. With family AF_BRIDGE neighList
// returns what bridges have learnt of their ports.
func neighList(h *netlink.Handle, linkIndex, family int) ([]netlink.Neigh, error) {
	return dump(func() ([]netlink.Neigh, error) { return h.NeighList(linkIndex, family) })
}

// dump asks again while the kernel says that its list changed as it was read: entries may be missing from such a list.
func dump[T any](ask func() (T, error)) (answer T, err error) {
	for range dumpTries {
		if answer, err = ask(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return answer, err
}

// ofHost returns a handle for links, addresses, routes, neighbours and tracked connections of the caller's network
// namespace. The handle opens a socket for each request, so there is nothing to close.
func ofHost() *netlink.Handle { return &netlink.Handle{} }

// openRoute returns a handle for links, addresses, routes and neighbours of the network namespace ns. Close the handle
// after use. The library enters ns only to open the socket, on a locked thread, and leaves at once.
func openRoute(ns netns.NsHandle) (*netlink.Handle, error) {
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("opening a netlink socket: %w", err)
	}
	return h, nil
}
