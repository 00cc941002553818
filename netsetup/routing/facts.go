package routing

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"boxrun/netsetup/dump"
)

// Facts is how the host chooses routes for IPv4, or for IPv6.
type Facts struct {
	all    netip.Prefix   // everywhere in the family
	rules  []netlink.Rule // of others, in the order of asking
	routes []entry        // of others, in all tables
	addrs  []address
	inner  map[string]bool // devices without a wire: lo and dummies
	index  map[string]int  // of devices

	ownRules  []Rule  // as boxrun makes rules
	ownRoutes []Route // in boxrun's tables
}

// entry is a route as a table has the route.
type entry struct {
	Route
	kind   int // unix.RTN_*
	metric int
	split  bool // a part of a route that leads to several devices
}

// address is an address of the host.
type address struct {
	addr   netip.Addr
	next   netip.Addr // another address of the same network
	device string
}

// Lists are the kernel's lists for a family, as package netlink returns them. Without rules of others, and with default
// routes over a single device, Addrs and Links are not needed.
type Lists struct {
	Family int // netlink.FAMILY_V4 or netlink.FAMILY_V6
	Rules  []netlink.Rule
	Routes []netlink.Route // of all tables
	Addrs  []netlink.Addr
	Links  []netlink.Link
}

// Plain reports whether the rules are the kernel's own three, and all default routes lead to a single device: then all
// packets to others leave by the same way. A table of boxrun's is not plain: the table may have to go.
func (l Lists) Plain() bool {
	return len(DefaultLinks(l.Routes, splitBits(l.Family == netlink.FAMILY_V6))) <= 1 &&
		!slices.ContainsFunc(l.Rules, func(r netlink.Rule) bool { return !kernels(r) && !idle(r) }) &&
		!slices.ContainsFunc(l.Routes, func(r netlink.Route) bool { return ownTable(r.Table) })
}

// splitBits returns how long a prefix may be of which VPN clients route several instead of a default route: the halves of
// IPv4, and the parts of 2000::/3 in IPv6.
func splitBits(six bool) int {
	if six {
		return 4
	}
	return 1
}

// kernels reports whether a rule is one of the three of a new kernel, or says the same.
func kernels(r netlink.Rule) bool {
	table := r.Table == unix.RT_TABLE_LOCAL || r.Table == unix.RT_TABLE_MAIN || r.Table == unix.RT_TABLE_DEFAULT
	return table && r.Src == nil && r.Dst == nil && r.IifName == "" && r.OifName == "" && r.Mark == 0 && !r.Invert &&
		r.SuppressPrefixlen < 0 && !unjudged(r)
}

// DefaultLinks returns the indexes of the devices that default routes of any table lead to, each once. With
// splitBits for bits the parts of the world, which VPN clients route, count as well; with 32 every route counts.
func DefaultLinks(routes []netlink.Route, bits int) []int {
	var links []int
	for _, r := range routes {
		if r.Type != unix.RTN_UNICAST || max(0, dump.PrefixOf(r.Dst).Bits()) > bits {
			continue
		}
		for _, hop := range hops(r) {
			if hop.LinkIndex != 0 && !slices.Contains(links, hop.LinkIndex) {
				links = append(links, hop.LinkIndex)
			}
		}
	}
	return links
}

// hops returns where a route leads, one element for a route that is not split.
func hops(r netlink.Route) []*netlink.NexthopInfo {
	if len(r.MultiPath) > 0 {
		return r.MultiPath
	}
	return []*netlink.NexthopInfo{{LinkIndex: r.LinkIndex, Gw: r.Gw, Via: r.Via}}
}

// OfDoctor is the alias of the link to a client that doctor makes for a moment: nothing is set up for the link's addresses.
const OfDoctor = "boxrun:doctor"

// Read makes Facts of the kernel's lists.
func Read(l Lists) Facts {
	f := Facts{all: everywhere(l.Family), inner: map[string]bool{}, index: map[string]int{}}
	names, passing := map[int]string{}, map[int]bool{}
	for _, link := range l.Links {
		a := link.Attrs()
		passing[a.Index] = a.Alias == OfDoctor
		names[a.Index], f.index[a.Name] = a.Name, a.Index
		f.inner[a.Name] = a.Name == "lo" || link.Type() == "dummy"
	}
	for _, r := range l.Rules {
		if rule, ours := ownRule(r); ours {
			f.ownRules = append(f.ownRules, rule)
		} else if !idle(r) {
			f.rules = append(f.rules, r)
		}
	}
	slices.SortStableFunc(f.rules, func(a, b netlink.Rule) int { return a.Priority - b.Priority })
	for _, r := range l.Routes {
		f.addRoute(r, names)
	}
	for _, a := range l.Addrs {
		network := dump.PrefixOf(a.IPNet)
		own := address{network.Addr(), network.Masked().Addr().Next(), names[a.LinkIndex]}
		if own.next == own.addr {
			own.next = own.next.Next()
		}
		if !passing[a.LinkIndex] && own.addr.IsGlobalUnicast() && (own.addr.Is4() || a.Flags&unix.IFA_F_TEMPORARY == 0) {
			f.addrs = append(f.addrs, own)
		}
	}
	slices.SortStableFunc(f.addrs, func(a, b address) int { return cmp.Or(cmp.Compare(a.device, b.device), a.addr.Compare(b.addr)) })
	return f
}

// addRoute adds a route, as an entry for each device the route leads to.
func (f *Facts) addRoute(r netlink.Route, names map[int]string) {
	e := entry{kind: r.Type, metric: r.Priority, split: len(r.MultiPath) > 0}
	e.Route = Route{Table: r.Table, Dst: dump.PrefixOf(r.Dst), Src: dump.AddrOf(r.Src), OnLink: r.Flags&unix.RTNH_F_ONLINK != 0}
	if !e.Dst.IsValid() {
		e.Dst = f.all
	}
	if e.Table == 0 {
		e.Table = unix.RT_TABLE_MAIN
	}
	for _, hop := range hops(r) {
		e.Gateway, e.Device = dump.Gateway(hop.Gw, hop.Via), names[hop.LinkIndex]
		if ownTable(e.Table) {
			f.ownRoutes = append(f.ownRoutes, e.Route)
		} else {
			f.routes = append(f.routes, e)
		}
	}
}

func everywhere(family int) netip.Prefix {
	if family == netlink.FAMILY_V6 {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}
