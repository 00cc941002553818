package routing

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"boxrun/netsetup/dump"
)

// flow is a packet that needs a route.
type flow struct {
	src, dst netip.Addr
	from     string // the device of arrival, or lo for a packet of the host itself
}

// lookup returns the entry that the kernel chooses for a packet, and false where the packet has no way. The choice of
// one part of a split route is not foretold: then any part is returned.
func (f Facts) lookup(p flow) (entry, bool) {
	for i := 0; i < len(f.rules); i++ {
		r := f.rules[i]
		if !matches(r, p) {
			continue
		}
		if r.Goto > r.Priority {
			for i+1 < len(f.rules) && f.rules[i+1].Priority < r.Goto {
				i++
			}
			continue
		}
		if r.Table == 0 {
			return entry{}, false // the rule says unreachable, or the like
		}
		e, found := f.best(r.Table, p.dst)
		if !found || e.kind == unix.RTN_THROW || e.Dst.Bits() <= r.SuppressPrefixlen {
			continue
		}
		return e, e.kind == unix.RTN_UNICAST || e.kind == unix.RTN_LOCAL
	}
	return entry{}, false
}

// best returns the entry of a table for a destination: the longest prefix, and of these the lowest metric.
func (f Facts) best(table int, dst netip.Addr) (best entry, found bool) {
	for _, e := range f.routes {
		if e.Table != table || !e.Dst.Contains(dst) {
			continue
		}
		longer := e.Dst.Bits() - best.Dst.Bits()
		if !found || longer > 0 || longer == 0 && e.metric < best.metric {
			best, found = e, true
		}
	}
	return best, found
}

// matches reports whether a rule is for a packet without a mark. A rule that asks for more than the flow tells is
// taken for no match.
func matches(r netlink.Rule, p flow) bool {
	if unjudged(r) {
		return false
	}
	src, dst := dump.PrefixOf(r.Src), dump.PrefixOf(r.Dst)
	all := (r.Src == nil || src.Contains(p.src)) && (r.Dst == nil || dst.Contains(p.dst)) &&
		(r.IifName == "" || r.IifName == p.from) && r.Mark == 0
	return all != r.Invert
}

// idle reports whether a rule leads no packet of a box anywhere: a rule that does nothing, or a rule for the devices of VRFs,
// which each kernel with a VRF has.
func idle(r netlink.Rule) bool { return r.Type == dump.Nop || r.Type == dump.VRF }

// unjudged reports whether a rule asks for ports, users, tunnels or the like.
func unjudged(r netlink.Rule) bool {
	return r.Type == dump.Beyond || r.Tos != 0 || r.TunID != 0 || r.OifName != "" || r.IPProto != 0 || r.Sport != nil || r.Dport != nil || r.UIDRange != nil
}

// Unjudged returns a line for each rule that asks for ports, users, tunnels or the like: the packets of a box have other
// ports than the host's own, and no user.
func (f Facts) Unjudged() []string {
	var lines []string
	for _, r := range f.rules {
		if unjudged(r) {
			lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s %d (%s)", command(f.all.Addr().Is6(), "rule"), r.Priority, asks(r))))
		}
	}
	return lines
}

// asks names, in the words of ip-rule(8), what makes a rule unjudged.
func asks(r netlink.Rule) string {
	var words []string
	for _, w := range []struct {
		asked bool
		word  string
	}{
		{r.UIDRange != nil, "uidrange"}, {r.IPProto != 0, "ipproto"}, {r.Sport != nil, "sport"}, {r.Dport != nil, "dport"},
		{r.Tos != 0, "dsfield"}, {r.TunID != 0, "tun_id"}, {r.OifName != "", "oif"},
		{r.Type == dump.Beyond, "more than boxrun knows"},
	} {
		if w.asked {
			words = append(words, w.word)
		}
	}
	return strings.Join(words, ", ")
}
