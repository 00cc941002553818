package firewall

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"boxrun/netsetup/rules"
)

// Ports is a range of host ports, to be published or published.
type Ports struct {
	Proto string     `json:"proto"` // tcp | udp | sctp
	IP    netip.Addr `json:"ip"`    // zero: every address of the host
	First uint16     `json:"first"`
	Last  uint16     `json:"last"`
}

// Diversion is a rule of others that sends a port elsewhere.
type Diversion struct {
	Asked int    // index of the range among the ranges asked for
	Port  uint16 // the lowest port of the range taken by the rule
	By    string // the rule and its likely maker: "a DNAT rule of Docker: -A DOCKER ..."
}

// Diversions returns the rules of others in the table nat that send ports of asked elsewhere. boxrun's rules are left
// out.
//
// Diversions follows the jumps from PREROUTING and OUTPUT. So a rule in a chain without jumps to the chain takes no
// port, and a rule without ports of its own (Kubernetes) takes the ports of the jumps on the way. A rule for all ports
// of all addresses is a transparent proxy and takes no port. Local are the host's addresses: a rule for other
// destinations, such as a cluster's, takes no host port. With no local addresses every destination counts.
func Diversions(nat *rules.Table, asked []Ports, local ...netip.Addr) []Diversion {
	w := foreignWalk{nat: nat, asked: asked, local: local}
	for _, chain := range []string{"PREROUTING", "OUTPUT"} {
		w.follow(chain, selection{}, 0)
	}
	return w.found
}

// selection is which packets reach a rule. Zero fields select all packets.
type selection struct {
	proto string
	ports []span
	dst   netip.Prefix
	not   []netip.Prefix // destinations left out
}

// selectionOf returns the packets a rule is for. An unknown condition selects all packets. Elsewhere is true for a
// rule for destinations outside the host only.
func selectionOf(r rules.Rule) (s selection, elsewhere bool) {
	for _, m := range r.Matches {
		switch m.Name {
		case "-p":
			if !m.Not && m.Value() != "all" {
				s.proto = m.Value()
			}
		case "-d":
			if m.Not {
				s.not = append(s.not, parsePrefix(m.Value()))
			} else {
				s.dst = parsePrefix(m.Value())
			}
		case "--dport", "--dports", "--ports":
			s.ports = parseSpans(m.Value())
			if m.Not {
				s.ports = allBut(s.ports)
			}
		case "--dst-type":
			elsewhere = m.Not == (m.Value() == "LOCAL")
		}
	}
	return s, elsewhere
}

// parsePrefix reads "10.0.0.0/8" or "10.0.0.1"; the zero Prefix for anything else.
func parsePrefix(value string) netip.Prefix {
	if p, err := netip.ParsePrefix(value); err == nil {
		return p
	}
	addr, _ := netip.ParseAddr(value)
	return netip.PrefixFrom(addr, addr.BitLen())
}

// and narrows a selection by the selection of the next rule on the way, and returns false where no packet is left.
func (s selection) and(t selection) (selection, bool) {
	if s.proto == "" {
		s.proto = t.proto
	}
	both := s.dst.IsValid() && t.dst.IsValid()
	if t.proto != "" && t.proto != s.proto || both && !s.dst.Overlaps(t.dst) {
		return selection{}, false
	}
	if t.dst.IsValid() && (!s.dst.IsValid() || t.dst.Bits() > s.dst.Bits()) {
		s.dst = t.dst
	}
	s.not = slices.Concat(s.not, t.not)
	switch {
	case s.ports == nil:
		s.ports = t.ports
	case t.ports != nil:
		s.ports = intersect(s.ports, t.ports)
	}
	return s, s.ports == nil || len(s.ports) > 0
}

// takes returns the lowest port asked for among the ports of the selected packets.
func (s selection) takes(a Ports, local []netip.Addr) (port uint16, taken bool) {
	if s.proto != "" && s.proto != a.Proto || s.ports == nil && !s.dst.IsValid() || !s.reaches(a.IP, local) {
		return 0, false
	}
	ports := []span{{int(a.First), int(a.Last)}}
	if s.ports != nil {
		ports = intersect(ports, s.ports)
	}
	if len(ports) == 0 {
		return 0, false
	}
	lowest := slices.MinFunc(ports, func(a, b span) int { return a.first - b.first })
	return uint16(lowest.first), true
}

// reaches reports whether packets to an address are selected. The zero Addr stands for any address of the host.
func (s selection) reaches(addr netip.Addr, local []netip.Addr) bool {
	if addr.IsValid() {
		local = []netip.Addr{addr}
	}
	return len(local) == 0 || slices.ContainsFunc(local, func(a netip.Addr) bool {
		excluded := slices.ContainsFunc(s.not, func(p netip.Prefix) bool { return p.Contains(a) })
		return !excluded && (!s.dst.IsValid() || s.dst.Contains(a))
	})
}

// foreignWalk collects diversions on the way through the chains of nat.
type foreignWalk struct {
	nat   *rules.Table
	asked []Ports
	local []netip.Addr
	found []Diversion
}

// maxJumps bounds the way through chains. The kernel refuses loops, but the listing may be of two moments.
const maxJumps = 16

// follow looks at the rules of others in a chain. The packets of s reach the chain.
func (w *foreignWalk) follow(chain string, s selection, depth int) {
	if depth > maxJumps {
		return
	}
	for _, r := range w.nat.Rules(chain) {
		own, elsewhere := selectionOf(r)
		selected, some := s.and(own)
		switch {
		case r.Ours() || elsewhere || !some:
		case r.Target == "DNAT" || r.Target == "REDIRECT":
			w.add(chain, r, selected)
		default:
			w.follow(r.Target, selected, depth+1)
		}
	}
}

// add notes the ports taken by a rule. Most rules are reached both from PREROUTING and from OUTPUT, and noted once.
func (w *foreignWalk) add(chain string, r rules.Rule, s selection) {
	for i, a := range w.asked {
		port, taken := s.takes(a, w.local)
		d := Diversion{Asked: i, Port: port, By: describe(chain, r)}
		if taken && !slices.Contains(w.found, d) {
			w.found = append(w.found, d)
		}
	}
}

// describe names a rule and the likely maker of the rule.
func describe(chain string, r rules.Rule) string {
	maker := ""
	for _, m := range managers() {
		if strings.HasPrefix(chain, m.prefix) {
			maker = " of " + m.name
		}
	}
	return fmt.Sprintf("a %s rule%s: -A %s %s", r.Target, maker, chain, r.Text)
}
