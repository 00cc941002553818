package lan

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"boxrun/netsetup/dump"
	"boxrun/netsetup/rules"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// turn is a routing rule in a box. Of the main table the rule takes all but default routes.
type turn struct {
	priority int
	from, to netip.Prefix // zero: any
	table    int
}

// lead is a route in one of boxrun's tables in a box.
type lead struct {
	table   int
	to      netip.Prefix
	gateway netip.Addr // zero for none
	device  string
}

// wanted are rules and routes of a family.
type wanted struct {
	rules  []turn
	routes []lead
}

// String returns the rule in the words of ip-rule(8).
func (t turn) String() string {
	words := fmt.Sprintf("pref %d%s%s", t.priority, rules.WordsIf(t.from.IsValid(), " from %s", t.from), rules.WordsIf(t.to.IsValid(), " to %s", t.to))
	if t.table == unix.RT_TABLE_MAIN {
		return words + " lookup main suppress_prefixlength 0 protocol kernel"
	}
	return words + fmt.Sprintf(" lookup %d protocol kernel", t.table)
}

// String returns the route in the words of ip-route(8).
func (l lead) String() string {
	words := l.to.String() + rules.WordsIf(l.gateway.IsValid(), " via %s", l.gateway) + " dev " + l.device
	return words + rules.WordsIf(l.gateway.IsValid(), " onlink") + fmt.Sprintf(" table %d protocol kernel", l.table)
}

// ip is the command for the family of an address.
func ip(a netip.Addr) string {
	if a.Is6() {
		return "ip -6"
	}
	return "ip"
}

// addr returns an address of the family of the rule.
func (t turn) addr() netip.Addr {
	if t.from.IsValid() {
		return t.from.Addr()
	}
	return t.to.Addr()
}

func (t turn) netlink() *netlink.Rule {
	r := netlink.NewRule()
	r.Family, r.Priority, r.Table, r.Protocol = familyOf(t.addr()), t.priority, t.table, unix.RTPROT_KERNEL
	r.Src, r.Dst = dump.IPNet(t.from), dump.IPNet(t.to)
	if t.table == unix.RT_TABLE_MAIN {
		r.SuppressPrefixlen = 0
	}
	return r
}

func (l lead) netlink(index int) *netlink.Route {
	r := &netlink.Route{LinkIndex: index, Table: l.table, Dst: dump.IPNet(l.to), Gw: l.gateway.AsSlice(), Protocol: unix.RTPROT_KERNEL}
	if l.gateway.IsValid() {
		r.Flags = unix.RTNH_F_ONLINK
	} else {
		r.Scope = unix.RT_SCOPE_LINK
	}
	return r
}

// present returns boxrun's rules and routes of a family in a box.
func present(h *netlink.Handle, family int) (have wanted, err error) {
	list, err := dump.Rules(h, family)
	for _, r := range list {
		if r.Priority >= toNetwork && r.Priority <= toElse && r.Protocol == unix.RTPROT_KERNEL {
			have.rules = append(have.rules, turn{r.Priority, dump.PrefixOf(r.Src), dump.PrefixOf(r.Dst), r.Table})
		}
	}
	if err != nil {
		return have, err
	}
	links, err := dump.Links(h)
	names := dump.Names(links)
	for _, table := range []int{byBridge, byLAN} {
		routes, routesErr := dump.Routes(h, family, &netlink.Route{Table: table}, netlink.RT_FILTER_TABLE)
		for _, r := range routes {
			to := dump.PrefixOf(r.Dst)
			if !to.IsValid() {
				to = anywhere(family)
			}
			have.routes = append(have.routes, lead{table, to, dump.AddrOf(r.Gw), names[r.LinkIndex]})
		}
		err = errors.Join(err, routesErr)
	}
	return have, err
}

func anywhere(family int) netip.Prefix {
	if family == netlink.FAMILY_V6 {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}

// Change is what to do about the rules and routes of a box on a bridge and a LAN.
type Change struct {
	missing, surplus wanted
}

// add adds the difference between what is wanted and what is there, of a family.
func (c *Change) add(want, have wanted) {
	c.missing.rules = append(c.missing.rules, dump.Without(want.rules, have.rules)...)
	c.missing.routes = append(c.missing.routes, dump.Without(want.routes, have.routes)...)
	c.surplus.rules = append(c.surplus.rules, dump.Without(have.rules, want.rules)...)
	c.surplus.routes = append(c.surplus.routes, dump.Without(have.routes, want.routes)...)
}

// Lines returns a line for each thing out of place; none where nothing is to do.
func (c Change) Lines() []string {
	var lines []string
	say := func(what string, v fmt.Stringer) { lines = append(lines, fmt.Sprintf("the box %s: %v", what, v)) }
	for _, t := range c.missing.rules {
		say("lacks a routing rule for its answers", t)
	}
	for _, l := range c.missing.routes {
		say("lacks a route for its answers", l)
	}
	for _, t := range c.surplus.rules {
		say("has a routing rule for answers that it gives no more", t)
	}
	for _, l := range c.surplus.routes {
		say("has a route for answers that it gives no more", l)
	}
	return lines
}

// Commands returns what a person would type on the host, where pid is the box's init.
func (c Change) Commands(pid string) []string {
	var lines []string
	say := func(a netip.Addr, act string, v fmt.Stringer) {
		lines = append(lines, fmt.Sprintf("nsenter -t %s -n %s %s %v", pid, ip(a), act, v))
	}
	for _, l := range c.surplus.routes {
		say(l.to.Addr(), "route del", l)
	}
	for _, t := range c.surplus.rules {
		say(t.addr(), "rule del", t)
	}
	for _, l := range c.missing.routes {
		say(l.to.Addr(), "route add", l)
	}
	for _, t := range c.missing.rules {
		say(t.addr(), "rule add", t)
	}
	return lines
}

// Apply makes the change in the network of a box, of which h is a handle. What another boxrun has done meanwhile is no error.
func (c Change) Apply(h *netlink.Handle) error {
	var errs []error
	note := func(err error, done syscall.Errno, doing string, v fmt.Stringer) {
		if err != nil && !errors.Is(err, done) {
			errs = append(errs, fmt.Errorf("%s %v: %w", doing, v, err))
		}
	}
	for _, l := range c.surplus.routes {
		note(l.on(h, h.RouteDel), unix.ESRCH, "deleting the route", l)
	}
	for _, t := range c.surplus.rules {
		note(h.RuleDel(t.netlink()), unix.ENOENT, "deleting the routing rule", t)
	}
	for _, l := range c.missing.routes {
		note(l.on(h, h.RouteAdd), unix.EEXIST, "adding the route", l)
	}
	for _, t := range c.missing.rules {
		note(h.RuleAdd(t.netlink()), unix.EEXIST, "adding the routing rule", t)
	}
	return errors.Join(errs...)
}

// on does with the route, by the index of its device.
func (l lead) on(h *netlink.Handle, do func(*netlink.Route) error) error {
	link, err := h.LinkByName(l.device)
	if err != nil {
		return err
	}
	return do(l.netlink(link.Attrs().Index))
}
