package routing

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"boxrun/netsetup/dump"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Rule is a routing rule of boxrun's: to a subnet by the main or the local table, or from a bridge by a mark. Boxrun's rules have
// the protocol of the kernel's own rules, as systemd-networkd removes all others that are not in its files.
type Rule struct {
	Six      bool         `json:"six,omitempty"` // a rule of IPv6
	Priority int          `json:"priority"`
	To       netip.Prefix `json:"to,omitzero"`
	From     string       `json:"from,omitempty"` // a bridge
	Mark     uint32       `json:"mark,omitempty"`
	Mask     uint32       `json:"mask,omitempty"`
	Table    int          `json:"table"`
}

// Route is a route of boxrun's, in a table of boxrun's own.
type Route struct {
	Table   int          `json:"table"`
	Dst     netip.Prefix `json:"dst"`
	Gateway netip.Addr   `json:"gateway,omitzero"`
	Device  string       `json:"device"`
	Src     netip.Addr   `json:"src,omitzero"`
	OnLink  bool         `json:"onlink,omitempty"` // the gateway is on the wire, whatever the addresses say
}

// ownTables is where the numbers of boxrun's tables begin. The index of the device is added.
const ownTables = 1_022_000_000

// ownTable reports whether a table is boxrun's.
func ownTable(table int) bool { return table > ownTables && table < ownTables+1<<24 }

// String returns the rule in the words of ip-rule(8).
func (r Rule) String() string {
	words := fmt.Sprintf("pref %d", r.Priority)
	if r.To.IsValid() {
		words += " to " + r.To.String()
	}
	if r.From != "" {
		words += fmt.Sprintf(" iif %s fwmark %#x/%#x", r.From, r.Mark, r.Mask)
	}
	table := fmt.Sprint(r.Table)
	switch r.Table {
	case unix.RT_TABLE_MAIN:
		table = "main"
	case unix.RT_TABLE_LOCAL:
		table = "local"
	}
	return words + " lookup " + table + " protocol kernel"
}

// String returns the route in the words of ip-route(8).
func (r Route) String() string {
	words := "default"
	if r.Dst.Bits() > 0 || r.foreign() { // ip-route(8) takes the family of the word default from the router
		words = r.Dst.String()
	}
	switch {
	case r.foreign():
		words += " via inet6 " + r.Gateway.String()
	case r.Gateway.IsValid():
		words += " via " + r.Gateway.String()
	}
	words += " dev " + r.Device
	if r.Src.IsValid() {
		words += " src " + r.Src.String()
	}
	if r.OnLink {
		words += " onlink"
	}
	return fmt.Sprintf("%s table %d protocol kernel", words, r.Table)
}

// foreign reports whether the router of a route of IPv4 has an address of IPv6.
func (r Route) foreign() bool { return r.Gateway.Is6() && r.Dst.Addr().Is4() }

// command returns the program for rules or routes of a family: "ip -6 rule".
func command(six bool, of string) string {
	if six {
		return "ip -6 " + of
	}
	return "ip " + of
}

// compare orders routes by table, networks next to the host first.
func (r Route) compare(o Route) int {
	rank := func(r Route) int { return map[bool]int{true: 1}[r.Gateway.IsValid()] }
	return cmp.Or(cmp.Compare(r.Table, o.Table), cmp.Compare(rank(r), rank(o)), r.Dst.Addr().Compare(o.Dst.Addr()),
		cmp.Compare(r.Dst.Bits(), o.Dst.Bits()))
}

// ownRule reads a rule of the kernel's list, and reports whether the rule is boxrun's. A kernel before 4.17 tells of
// no protocol: there boxrun does not know its rules again.
func ownRule(r netlink.Rule) (Rule, bool) {
	own := Rule{Six: r.Family == netlink.FAMILY_V6, Priority: r.Priority, To: dump.PrefixOf(r.Dst), From: r.IifName, Mark: r.Mark, Table: r.Table}
	if r.Mask != nil {
		own.Mask = *r.Mask
	}
	if r.Src != nil || r.Invert || unjudged(r) || r.Protocol != unix.RTPROT_KERNEL {
		return own, false
	}
	if own.From == "" {
		return own, r.Dst != nil && r.Mark == 0 && (r.Table == unix.RT_TABLE_MAIN || r.Table == unix.RT_TABLE_LOCAL)
	}
	return own, r.Dst == nil && r.Mark != 0
}

// netlink returns the rule as package netlink takes rules.
func (r Rule) netlink() *netlink.Rule {
	rule := netlink.NewRule()
	rule.Family, rule.Priority, rule.Table = netlink.FAMILY_V4, r.Priority, r.Table
	if r.Six {
		rule.Family = netlink.FAMILY_V6
	}
	rule.IifName, rule.Protocol = r.From, unix.RTPROT_KERNEL
	rule.Dst = dump.IPNet(r.To)
	if r.From != "" {
		rule.Mark, rule.Mask = r.Mark, &r.Mask
	}
	return rule
}

// netlink returns the route as package netlink takes routes. The index is that of the device.
func (r Route) netlink(index int) *netlink.Route {
	route := &netlink.Route{
		LinkIndex: index, Table: r.Table, Protocol: unix.RTPROT_KERNEL,
		Dst: dump.IPNet(r.Dst), Src: r.Src.AsSlice(),
	}
	switch {
	case r.foreign():
		route.Via = &netlink.Via{AddrFamily: netlink.FAMILY_V6, Addr: r.Gateway.AsSlice()}
	case r.Gateway.IsValid():
		route.Gw = r.Gateway.AsSlice()
	default:
		route.Scope = unix.RT_SCOPE_LINK
	}
	if r.OnLink {
		route.Flags = unix.RTNH_F_ONLINK
	}
	return route
}

// Change is what to do about boxrun's rules and routes for a bridge.
type Change struct {
	Add, Delete             []Rule
	AddRoutes, DeleteRoutes []Route
}

// Change compares what the host has of boxrun's for a bridge with what is wanted. Tables that rules of other bridges
// lead to stay.
func (f Facts) Change(bridge string, subnet netip.Prefix, want Answers) Change {
	var have []Rule
	shared := map[int]bool{}
	for _, r := range f.ownRules {
		if r.From == bridge || r.To.IsValid() && r.To == subnet {
			have = append(have, r)
		} else {
			shared[r.Table] = true
		}
	}
	for _, r := range want.Routes {
		shared[r.Table] = false // the same for all bridges, and so this one's to repair
	}
	mine := slices.DeleteFunc(slices.Clone(f.ownRoutes), func(r Route) bool { return shared[r.Table] })
	return Change{
		Add: dump.Without(want.Rules, have), Delete: dump.Without(have, want.Rules),
		AddRoutes: dump.Without(want.Routes, f.ownRoutes), DeleteRoutes: dump.Without(mine, want.Routes),
	}
}

// Lines returns a line for each rule and route to change.
func (c Change) Lines() []string {
	var lines []string
	for _, r := range c.AddRoutes {
		lines = append(lines, "the route is missing: "+r.String())
	}
	for _, r := range c.Add {
		lines = append(lines, "the routing rule is missing: "+r.String())
	}
	for _, r := range c.Delete {
		lines = append(lines, "the routing rule is out of date: "+r.String())
	}
	for _, r := range c.DeleteRoutes {
		lines = append(lines, "the route is out of date: "+r.String())
	}
	return lines
}

// Commands returns what a person would type to make the change, and to take back what was added.
func (c Change) Commands() (up, down []string) {
	for _, r := range c.AddRoutes {
		ip := command(r.Dst.Addr().Is6(), "route")
		up, down = append(up, ip+" replace "+r.String()), append(down, ip+" del "+r.String())
	}
	for _, r := range c.Add {
		ip := command(r.Six, "rule")
		up, down = append(up, ip+" add "+r.String()), append(down, ip+" del "+r.String())
	}
	for _, r := range c.Delete {
		up = append(up, command(r.Six, "rule")+" del "+r.String())
	}
	for _, r := range c.DeleteRoutes {
		up = append(up, command(r.Dst.Addr().Is6(), "route")+" del "+r.String())
	}
	slices.Reverse(down)
	return up, down
}

// Owned is a routing rule of boxrun's, and the bridge of the rule, "" where the bridge is gone.
type Owned struct {
	Owner string
	Rule  Rule
}

// Owned returns boxrun's rules and routes. The bridge of a rule is the bridge whose packets the rule is for, or behind
// which the subnet is.
func (f Facts) Owned() ([]Owned, []Route) {
	var owned []Owned
	for _, r := range f.ownRules {
		owner := r.From
		for _, e := range f.routes {
			if owner == "" && e.Table == unix.RT_TABLE_MAIN && e.Dst == r.To {
				owner = e.Device
			}
		}
		owned = append(owned, Owned{owner, r})
	}
	return owned, f.ownRoutes
}
