package netsetup

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"boxrun/near"
	"boxrun/netsetup/dump"
	"boxrun/netsetup/rules"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// External is the interface by which others reach the host.
type External struct {
	Name  string
	MTU   int          // bytes
	Addrs []netip.Addr // its global addresses, IPv4 first

	PointToPoint bool // a tunnel, or a modem
}

// Addr returns the first address of the family of an address; zero for none.
func (e External) Addr(like netip.Addr) netip.Addr {
	for _, a := range e.Addrs {
		if a.Is6() == like.Is6() {
			return a
		}
	}
	return netip.Addr{}
}

// DefaultExternal returns the interface of the default route with the lowest metric, of IPv6 where there is none of IPv4.
// Without a default route DefaultExternal returns the zero External and no error: boxes can still be reached from the host
// and its networks.
func DefaultExternal() (External, error) {
	h := dump.OfHost()
	index, err := defaultLink(h)
	if index == 0 || err != nil {
		return External{}, err
	}
	link, err := h.LinkByIndex(index)
	if err != nil {
		return External{}, fmt.Errorf("reading the default route's interface: %w", err)
	}
	return externalOf(h, link)
}

// ExternalNamed returns an interface by its name, or by an alternative name. The error for a name that does not exist
// lists the interfaces of the host that a person may have meant, which loopback, boxes' own ends and boxrun's devices are not.
func ExternalNamed(name string) (External, error) {
	h := dump.OfHost()
	links, err := dump.Links(h)
	if err != nil {
		return External{}, fmt.Errorf("listing links: %w", err)
	}
	var names []string
	for _, l := range links {
		if l.Attrs().Name == name || slices.Contains(l.Attrs().AltNames, name) {
			return externalOf(h, l)
		}
		if a := l.Attrs(); a.Name != "lo" && !strings.HasPrefix(a.Name, "veth") && !strings.HasPrefix(a.Alias, rules.MarkPrefix) {
			names = append(names, a.Name)
		}
	}
	return External{}, noInterface(name, names)
}

// noInterface returns the error for a missing interface, with the names that a person may have meant.
func noInterface(name string, names []string) error {
	meant := near.Word(name, names, 2)
	switch len(names) {
	case 0:
		return fmt.Errorf("no interface %q: the host has none but lo", name)
	case 1:
		return fmt.Errorf("no interface %q: there is %s", name, names[0])
	}
	if meant != "" {
		meant = fmt.Sprintf(", did you mean %q?", meant)
	}
	return fmt.Errorf("no interface %q%s there are %s", name, cmp.Or(meant, ":"), strings.Join(names, ", "))
}

// LocalAddrs returns all IPv4 addresses of the host, 127.0.0.1 included.
func LocalAddrs() ([]netip.Addr, error) { return localAddrs(netlink.FAMILY_V4) }

// AllLocalAddrs returns all addresses of the host, 127.0.0.1 and ::1 included.
func AllLocalAddrs() ([]netip.Addr, error) { return localAddrs(netlink.FAMILY_ALL) }

func localAddrs(inet int) ([]netip.Addr, error) {
	list, err := dump.Addrs(dump.OfHost(), nil, inet)
	var addrs []netip.Addr
	for _, a := range list {
		if addr := dump.PrefixOf(a.IPNet).Addr(); addr.IsValid() {
			addrs = append(addrs, addr)
		}
	}
	return addrs, err
}

// IsLocal reports whether the host takes packets to an IPv4 address for its own, as a rule with "addrtype --dst-type
// LOCAL" asks: all of 127.0.0.0/8, the addresses of interfaces, and what a route of type local says.
func IsLocal(addr netip.Addr) (bool, error) {
	h := dump.OfHost()
	routes, err := h.RouteGet(addr.AsSlice())
	var none unix.Errno // there is no way there, or the way is closed
	if errors.As(err, &none) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking up the route to %s: %w", addr, err)
	}
	return slices.ContainsFunc(routes, func(r netlink.Route) bool { return r.Type == unix.RTN_LOCAL }), nil
}

// defaultLink returns the index of the interface of the best default route of the main table, 0 where there is none.
func defaultLink(h *netlink.Handle) (index int, err error) {
	for _, inet := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := dump.DefaultRoutes(h, inet)
		if err != nil {
			return 0, fmt.Errorf("listing routes: %w", err)
		}
		best := 0
		for _, r := range routes {
			via := routeLink(r) // 0 of a VPN's "unreachable default"
			if via != 0 && (index == 0 || r.Priority < best) {
				best, index = r.Priority, via
			}
		}
		if index != 0 {
			break
		}
	}
	return index, nil
}

// externalOf completes a link with its addresses.
func externalOf(h *netlink.Handle, link netlink.Link) (External, error) {
	prefixes, err := globalAddrs(h, link, netlink.FAMILY_ALL)
	if err != nil {
		return External{}, fmt.Errorf("listing the addresses of %s: %w", link.Attrs().Name, err)
	}
	e := External{Name: link.Attrs().Name, MTU: link.Attrs().MTU, PointToPoint: link.Attrs().Flags&net.FlagPointToPoint != 0}
	for _, p := range prefixes {
		e.Addrs = append(e.Addrs, p.Addr())
	}
	return e, nil
}
