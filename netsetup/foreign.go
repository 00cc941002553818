package netsetup

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// ForeignDNAT gives the rules of others that already send host ports of ports elsewhere, from the lines of
// "iptables -t nat -S". It follows the jumps from PREROUTING and OUTPUT, so that a rule in a chain nothing leads to
// takes no port, and one without ports of its own (Kubernetes) takes those of the rules that lead to it. Rules with a
// comment "boxrun:..." are ours. local are the host's addresses (LocalAddrs): a rule for other destinations, such as a
// cluster's, takes no host port; with none given every destination counts. A rule for all ports of all addresses is a
// transparent proxy and takes no port. Of several ports that one rule takes from one Port, the lowest is named.
func ForeignDNAT(natRules []string, ports []Port, local ...netip.Addr) []Holder {
	w := ruleWalk{rules: map[string][]natRule{}, ports: ports, local: local}
	for _, line := range natRules {
		if r, ok := parseNAT(line); ok && !r.ours() {
			w.rules[r.chain] = append(w.rules[r.chain], r)
		}
	}
	for _, chain := range []string{"PREROUTING", "OUTPUT"} {
		w.follow(chain, selection{}, 0)
	}
	return w.found
}

// natRule is one rule, as far as it matters here.
type natRule struct {
	text, chain, target, comment string
	takes                        selection
	notLocal                     bool // only for destinations that are not the host's
}

// ours holds for boxrun's rules, and for jumps to its chains that lost their comment.
func (r natRule) ours() bool {
	return strings.HasPrefix(r.comment, "boxrun:") || strings.HasPrefix(r.target, "BOXRUN-")
}

// selection is which packets reach a rule. Zero fields stand for all.
type selection struct {
	proto string
	ports []span
	dst   netip.Prefix
	not   []netip.Prefix // destinations left out
}

// span is a range of ports, both ends included.
type span struct{ first, last int }

// and narrows a selection by that of the next rule on the way. It is false where nothing is left.
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

// intersect gives the ports that are in both; it is not nil.
func intersect(a, b []span) []span {
	both := []span{}
	for _, x := range a {
		for _, y := range b {
			if s := (span{max(x.first, y.first), min(x.last, y.last)}); s.first <= s.last {
				both = append(both, s)
			}
		}
	}
	return both
}

// takes gives the lowest host port of p that packets selected by s are sent to.
func (s selection) takes(p Port, local []netip.Addr) (uint16, bool) {
	if s.proto != "" && s.proto != p.Proto || s.ports == nil && !s.dst.IsValid() || !s.reaches(p.HostIP, local) {
		return 0, false
	}
	asked := []span{{int(p.Host), int(p.Host) + int(p.Count) - 1}}
	if s.ports != nil {
		asked = intersect(asked, s.ports)
	}
	if len(asked) == 0 {
		return 0, false
	}
	lowest := slices.MinFunc(asked, func(a, b span) int { return a.first - b.first })
	return uint16(lowest.first), true
}

// reaches says whether packets to an address are selected; the zero Addr stands for any of the host's.
func (s selection) reaches(addr netip.Addr, local []netip.Addr) bool {
	if addr.IsValid() {
		local = []netip.Addr{addr}
	}
	return len(local) == 0 || slices.ContainsFunc(local, func(a netip.Addr) bool {
		left := slices.ContainsFunc(s.not, func(p netip.Prefix) bool { return p.Contains(a) })
		return !left && (!s.dst.IsValid() || s.dst.Contains(a))
	})
}

// ruleWalk collects the holders on the way through the chains.
type ruleWalk struct {
	rules map[string][]natRule
	ports []Port
	local []netip.Addr
	found []Holder
}

// maxJumps bounds the way through chains; the kernel refuses loops, but the text may be of two moments.
const maxJumps = 16

// follow looks at the rules of a chain that packets of s reach.
func (w *ruleWalk) follow(chain string, s selection, depth int) {
	if depth > maxJumps {
		return
	}
	for _, r := range w.rules[chain] {
		selected, some := s.and(r.takes)
		switch {
		case !some || r.notLocal:
		case r.target == "DNAT" || r.target == "REDIRECT":
			w.add(r, selected)
		default:
			w.follow(r.target, selected, depth+1)
		}
	}
}

// add notes the ports that a rule takes; most are reached both from PREROUTING and from OUTPUT.
func (w *ruleWalk) add(r natRule, s selection) {
	for _, p := range w.ports {
		number, taken := s.takes(p, w.local)
		if !taken {
			continue
		}
		h := Holder{Port: p, Number: number, Proto: p.Proto, By: r.String()}
		if !slices.Contains(w.found, h) {
			w.found = append(w.found, h)
		}
	}
}

// String names the rule and whose it seems to be.
func (r natRule) String() string {
	for _, by := range []struct{ prefix, name string }{
		{"DOCKER", "Docker"},
		{"CNI-", "CNI portmap"},
		{"NETAVARK-", "podman"},
		{"KUBE-", "Kubernetes"},
	} {
		if strings.HasPrefix(r.chain, by.prefix) {
			return fmt.Sprintf("a %s rule of %s: %s", r.target, by.name, r.text)
		}
	}
	return fmt.Sprintf("a %s rule: %s", r.target, r.text)
}

// parseNAT reads a line that adds a rule. Of matches it does not know it takes the rule to select more than it does.
func parseNAT(line string) (natRule, bool) {
	words := splitQuoted(line)
	if len(words) < 2 || words[0] != "-A" {
		return natRule{}, false
	}
	r := natRule{text: line, chain: words[1]}
	not := false
	for i := 2; i+1 < len(words); i++ {
		if words[i] == "!" {
			not = true
			continue
		}
		if r.read(words[i], words[i+1], not) {
			i++
		}
		not = false
	}
	return r, true
}

// read takes in one option, unless it is of no importance.
func (r *natRule) read(option, value string, not bool) bool {
	switch option {
	case "-j", "-g":
		r.target = value
	case "--comment":
		r.comment = value
	case "-p":
		if !not && value != "all" {
			r.takes.proto = value
		}
	case "-d":
		r.readDestination(value, not)
	case "--dport", "--dports", "--ports":
		r.takes.ports = parseSpans(value, not)
	case "--dst-type":
		r.notLocal = not == (value == "LOCAL")
	default:
		return false
	}
	return true
}

func (r *natRule) readDestination(value string, not bool) {
	p, err := netip.ParsePrefix(value)
	if err != nil {
		addr, _ := netip.ParseAddr(value)
		p = netip.PrefixFrom(addr, addr.BitLen())
	}
	if not {
		r.takes.not = append(r.takes.not, p)
	} else {
		r.takes.dst = p
	}
}

// parseSpans reads "80", "80:90" and lists of both. What cannot be read selects nothing; it is not nil.
func parseSpans(value string, not bool) []span {
	spans := []span{}
	for _, part := range strings.Split(value, ",") {
		first, last, isRange := strings.Cut(part, ":")
		if !isRange {
			last = first
		}
		a, errA := strconv.Atoi(first)
		b, errB := strconv.Atoi(last)
		if errA == nil && errB == nil {
			spans = append(spans, span{a, b})
		}
	}
	if !not {
		return spans
	}
	rest := []span{{0, 65535}}
	for _, s := range spans {
		rest = intersect(rest, []span{{0, s.first - 1}, {s.last + 1, 65535}})
	}
	return rest
}
