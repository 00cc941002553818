package netsetup

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"boxrun/netsetup/dump"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ErrNoBridge is in the chain of the error where no bridge can have the name, as another device has the name.
var ErrNoBridge = errors.New("is no name for a bridge")

// Overlap returns an error that says why n cannot be put on this host: the bridge's name belongs to another
// device or is an alternative name, which no rule matches, the bridge has other addresses and not the gateway's, or a
// subnet overlaps an address or a route of another interface. Such a route would lose packets to the bridge, among them
// packets of an administrator's own connection. Default routes do not count. A bridge that does not exist is fine.
func Overlap(n Network) error {
	h := dump.OfHost()
	addrs, err := dump.Addrs(h, nil, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("listing addresses: %w", err)
	}
	routes, err := dump.Routes(h, netlink.FAMILY_V4, &netlink.Route{}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return fmt.Errorf("listing routes: %w", err)
	}
	if n.Subnet6.IsValid() {
		routes6, err := dump.Routes(h, netlink.FAMILY_V6, &netlink.Route{}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return fmt.Errorf("listing routes: %w", err)
		}
		routes = append(routes, routes6...)
	}
	// The links come last: another boxrun may make the bridge in between, and the names must hold every link that an
	// address was seen on. A link without a name has gone meanwhile.
	links, err := dump.Links(h)
	if err != nil {
		return fmt.Errorf("listing links: %w", err)
	}
	names := namesFor(n.Bridge, links)
	return cmp.Or(noBridge(n.Bridge, links), overlappingAddr(n, addrs, names), overlappingRoute(n, routes, names))
}

// namesFor returns the names of links, in which a bridge of boxrun's that was renamed has its own name, if no other link has that.
func namesFor(bridge string, links []netlink.Link) map[int]string {
	names := dump.Names(links)
	taken := slices.ContainsFunc(links, func(l netlink.Link) bool { return l.Attrs().Name == bridge })
	if link := renamedBridge(links, bridge); link != nil && !taken {
		names[link.Attrs().Index] = bridge
	}
	return names
}

// NamesBridge returns an ErrNoBridge where another device has the name, be it as an alternative name.
func NamesBridge(name string) error {
	links, err := dump.Links(dump.OfHost())
	if err != nil {
		return fmt.Errorf("listing links: %w", err)
	}
	return noBridge(name, links)
}

func noBridge(name string, links []netlink.Link) error {
	for _, l := range links {
		switch {
		case l.Attrs().Name == name && l.Type() != "bridge":
			return fmt.Errorf("%q %w: a %s device", name, ErrNoBridge, l.Type())
		case slices.Contains(l.Attrs().AltNames, name):
			return fmt.Errorf("%q %w: it is an alternative name of %s", name, ErrNoBridge, l.Attrs().Name)
		}
	}
	return nil
}

// Overlap is the package's Overlap for a bridge that is up. Of the host's lists only the routes are read, unless a route
// of another interface overlaps: each address has a route, be it the route to itself.
func (k *Kernel) Overlap(n Network) error {
	bridge, err := k.linkByName(n.Bridge)
	if err != nil || bridge == nil {
		return err
	}
	for _, f := range []family{v4, v6} {
		if !n.subnet(f).IsValid() {
			continue
		}
		lists, err := k.readLists(f)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(lists.Routes, func(r netlink.Route) bool {
			dst := dump.PrefixOf(r.Dst)
			return !isDefault(dst) && dst.Overlaps(n.subnet(f)) && routeLink(r) != bridge.Attrs().Index
		}) {
			return Overlap(n)
		}
	}
	return nil
}

func overlappingAddr(n Network, addrs []netlink.Addr, names map[int]string) error {
	gateway := netip.PrefixFrom(n.Gateway(), n.Subnet.Bits())
	placed := slices.ContainsFunc(addrs, func(a netlink.Addr) bool {
		return names[a.LinkIndex] == n.Bridge && dump.PrefixOf(a.IPNet) == gateway
	})
	for _, a := range addrs {
		addr, link := dump.PrefixOf(a.IPNet), names[a.LinkIndex]
		switch {
		case link == n.Bridge && !placed:
			return fmt.Errorf("bridge %s has the address %v, not %v", n.Bridge, addr, gateway)
		case link != "" && link != n.Bridge && addr.Overlaps(n.Subnet):
			return fmt.Errorf("subnet %v of %s overlaps %v on %s", n.Subnet, n.Bridge, addr, link)
		}
	}
	return nil
}

// overlappingRoute looks at every table: a VPN's own table is asked before the main table. A route of such a table that leads to
// where all else of the table goes is for no network beyond: Tailscale has one for each network of the host, the boxes' too, while
// an exit node is used. The rule for the subnet comes before such tables. Nor is a network beyond where a table passes on.
func overlappingRoute(n Network, routes []netlink.Route, names map[int]string) error {
	for _, r := range routes {
		dst := dump.PrefixOf(r.Dst)
		subnet := n.subnet(familyOf(dst.Addr()))
		if isDefault(dst) || r.Table == unix.RT_TABLE_LOCAL || r.Type == unix.RTN_THROW || !dst.Overlaps(subnet) ||
			asAllElse(r, routes) {
			continue
		}
		if via := routeTarget(r, names); via != "" && via != n.Bridge {
			return fmt.Errorf("subnet %v of %s overlaps the route to %v by %s", subnet, n.Bridge, dst, via)
		}
	}
	return nil
}

// asAllElse reports whether a route of a table beside the main table leads to where the table's default route does.
func asAllElse(r netlink.Route, routes []netlink.Route) bool {
	to, at := dump.PrefixOf(r.Dst), routeLink(r)
	return r.Table != unix.RT_TABLE_MAIN && at != 0 && slices.ContainsFunc(routes, func(d netlink.Route) bool {
		dst := dump.PrefixOf(d.Dst)
		return d.Table == r.Table && isDefault(dst) && routeLink(d) == at && d.Family == r.Family &&
			dump.Gateway(d.Gw, d.Via) == dump.Gateway(r.Gw, r.Via) && (!dst.IsValid() || dst.Overlaps(to))
	})
}

// isDefault holds for parts of the world too, which VPN clients put before the default route: 0.0.0.0/1 and 128.0.0.0/1, and of
// OpenVPN ::/3, 2000::/4, 3000::/4 and fc00::/7.
func isDefault(dst netip.Prefix) bool {
	return !dst.IsValid() || dst.Bits() <= 1 || dst.Addr().Is6() && dst.Bits() <= 7
}

// routeLink returns the index of the interface a route leads to, the first of several, or 0.
func routeLink(r netlink.Route) int {
	if r.LinkIndex == 0 && len(r.MultiPath) > 0 {
		return r.MultiPath[0].LinkIndex
	}
	return r.LinkIndex
}

// routeTarget names where a route leads: the interface, or the fate of packets without an interface.
func routeTarget(r netlink.Route, names map[int]string) string {
	if index := routeLink(r); index != 0 {
		return names[index]
	}
	fates := map[int]string{
		unix.RTN_BLACKHOLE: "blackhole", unix.RTN_UNREACHABLE: "unreachable", unix.RTN_PROHIBIT: "prohibit",
	}
	return cmp.Or(fates[r.Type], "no interface")
}
