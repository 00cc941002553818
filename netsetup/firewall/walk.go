package firewall

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"boxrun/netsetup/rules"
)

// Packet is a packet as rules see it.
type Packet struct {
	In, Out      string // devices; Out is "" before routing
	From, Into   string // ports of a bridge In and of a bridge Out; "" for unknown
	Src, Dst     netip.Addr
	Proto        string // tcp | udp | sctp, or arp for the host's own frames
	SPort, DPort uint16
	Reply        bool // of an accepted connection, state ESTABLISHED; else the first packet of a connection, NEW
	Translated   bool // the destination of its connection was translated: state DNAT
	ToHost       bool // Dst is an address of the host
}

// six reports whether the packet is of IPv6.
func (p Packet) six() bool { return p.Src.Is6() || p.Dst.Is6() }

// Outcome is how the walk of a packet through rules ended.
type Outcome struct {
	Dropped bool
	Rule    string   // what dropped or translated the packet, as a person would type or list the rule
	To      string   // where a translation sends it, in iptables' words: "10.22.0.2:80"
	Unsure  []string // rules that may drop the packet, depending on something unknown here: a mark, a set, the time
	track   tracking
	Rivals  []string // rules that translate the packet if asked before Rule: see Translation
}

// end is what a rule or a chain does with a packet.
type end int

const (
	goesOn     end = iota // to the next rule, or to the caller's
	accepts               // the table is done with the packet
	drops                 // the packet is gone
	translates            // the destination is rewritten, and the table is done with the packet
	decidesNot            // a program outside the kernel decides
)

// course is what happened to a packet so far.
type course struct {
	p      Packet
	doubts int // how many conditions on the way here depend on something unknown
	out    Outcome
	maybe  bool // a rule was passed that may have accepted the packet
}

// meets notes the effect of a rule on the packet, and returns whether the packet goes on. If there are doubts on the
// way, the effect is uncertain and the packet goes on. To is where a translation leads.
func (c *course) meets(e end, rule, to string) end {
	switch {
	case e == decidesNot, e == drops && c.doubts > 0:
		c.out.Unsure = append(c.out.Unsure, rule)
		return goesOn
	case c.doubts > 0:
		c.maybe = c.maybe || e == accepts
		return goesOn
	case e == drops, e == translates:
		c.out.Rule, c.out.To = rule, to
	}
	return e
}

// finish returns the outcome of a built-in chain that ended with e. Policy names the policy of a chain that drops by
// default, "" for a chain that accepts.
func (c *course) finish(e end, policy string) Outcome {
	if e == goesOn && policy != "" {
		e, c.out.Rule = drops, policy
	}
	if e == drops && c.maybe { // what dropped the packet may not have been asked
		return Outcome{Unsure: append(c.out.Unsure, c.out.Rule)}
	}
	c.out.Dropped = e == drops
	return c.out
}

// walk is a packet on its way through the chains of a table of iptables.
type walk struct {
	course
	t *rules.Table
}

// through walks a built-in chain. A table without the chain lets the packet go on.
func through(t *rules.Table, chain string, p Packet) Outcome {
	w := walk{course{p: p}, t}
	e := w.chain(chain, 0)
	policy := ""
	if t.Drops(chain) {
		policy = fmt.Sprintf("%s -t %s -P %s DROP", t.Program, t.Name, chain)
	}
	return w.finish(e, policy)
}

// chain walks the rules of a chain.
func (w *walk) chain(name string, depth int) end {
	if depth > maxJumps {
		return goesOn
	}
	for _, r := range w.t.Rules(name) {
		m := matches(r, w.p)
		if m == no {
			continue
		}
		before := w.doubts
		if m == perhaps {
			w.doubts++
		}
		e := w.rule(name, r, depth)
		w.doubts = before
		if e != goesOn || m == yes && (r.Goto || r.Target == "RETURN") {
			return e
		}
	}
	return goesOn
}

// rule does what a rule says. The packet matches the rule, or may match.
func (w *walk) rule(chain string, r rules.Rule, depth int) end {
	command := w.t.Command(chain, r)
	switch r.Target {
	case "ACCEPT":
		return w.meets(accepts, command, "")
	case "DROP", "REJECT":
		return w.meets(drops, command, "")
	case "DNAT", "REDIRECT":
		return w.meets(translates, command, r.To)
	case "CT", "NOTRACK":
		w.untracks(command, r)
	case "NFQUEUE", "TPROXY":
		return w.meets(decidesNot, command, "")
	}
	return w.chain(r.Target, depth+1) // RETURN, a chain, or a target after which the packet goes on: LOG, MARK, TCPMSS
}

// Forwarded walks a packet through the host: in by p.In, translated to the given address and port (the zero AddrPort
// for no translation), out by p.Out. The outcome names the first rule to drop the packet, of either backend of
// iptables or of native nftables, on bridges and devices as well.
func (s State) Forwarded(p Packet, to netip.AddrPort) Outcome {
	before, after := p, p
	before.Out = ""
	if to.IsValid() {
		after.Dst, after.DPort, after.Translated, after.ToHost = to.Addr(), to.Port(), true, false
	}
	return inTurn(
		s.at("ingress", before),
		s.nft.onBridge(p.In, before, "prerouting", "input"),
		s.only(func(c nftChain) bool { return c.Prio <= dstnat }).at("prerouting", before, "raw", "mangle"),
		s.only(func(c nftChain) bool { return c.Prio > dstnat }).at("prerouting", after),
		s.at("forward", after, "mangle", "filter", "security"),
		s.at("postrouting", after, "mangle"),
		s.nft.onBridge(p.Out, after, "output", "postrouting"),
		s.at("egress", after))
}

// Own walks a packet between the host itself and a box: out by p.Out, or, without p.Out, in by p.In.
func (s State) Own(p Packet) Outcome {
	if p.Out == "" {
		return inTurn(
			s.at("ingress", p),
			s.nft.onBridge(p.In, p, "prerouting", "input"),
			s.at("prerouting", p, "raw", "mangle"),
			s.at("input", p, "mangle", "filter", "security"))
	}
	return inTurn(
		s.at("output", p, "raw", "mangle", "filter", "security"),
		s.at("postrouting", p, "mangle"),
		s.nft.onBridge(p.Out, p, "output", "postrouting"),
		s.at("egress", p))
}

// inTurn returns the first outcome in which a rule decides, unsure of the rules of earlier outcomes, too.
func inTurn(outcomes ...Outcome) (all Outcome) {
	for _, o := range outcomes {
		o.Unsure = slices.Concat(all.Unsure, o.Unsure)
		if all = o; o.Dropped || o.Rule != "" {
			break
		}
	}
	return all
}

// only returns the rules with those chains of nftables for which keep returns true.
func (s State) only(keep func(nftChain) bool) State {
	s.nft = s.nft.only(keep)
	return s
}

// at walks a packet through all rules of a hook.
func (s State) at(hook string, p Packet, tables ...string) Outcome {
	var outcomes []Outcome
	for _, name := range tables {
		for _, t := range s.of(p) {
			if t.Name == name {
				outcomes = append(outcomes, through(t, strings.ToUpper(hook), p))
			}
		}
	}
	return inTurn(append(outcomes, s.nft.through(hook, "filter", p))...)
}

// Translation returns which rule translates the destination of a new packet, and to where; no Rule where none does.
// The hook is prerouting, or output for packets of the host itself.
//
// The first translation counts, and chains are asked by priority. Of several chains with the same priority the newest
// is asked first, and their age cannot be seen: then Rule is boxrun's, if boxrun has a rule there, and Rivals are the
// others.
func (s State) Translation(hook string, p Packet) Outcome {
	before := s.nft.only(func(c nftChain) bool { return c.Prio < dstnat }).through(hook, "nat", p)
	after := s.nft.only(func(c nftChain) bool { return c.Prio > dstnat }).through(hook, "nat", p)
	for _, o := range []Outcome{before, s.translations(hook, p), after} {
		if o.Rule != "" {
			return o
		}
	}
	return Outcome{}
}

// dstnat is the priority of PREROUTING and OUTPUT of iptables' nat, in both backends (NF_IP_PRI_NAT_DST).
const dstnat = -100

// translations asks all chains of the priority dstnat.
func (s State) translations(hook string, p Packet) Outcome {
	var all []Outcome
	for _, t := range s.of(p) {
		if t.Name == "nat" {
			all = append(all, through(t, strings.ToUpper(hook), p))
		}
	}
	for _, c := range s.nft.base {
		if c.Prio == dstnat && c.Hook == hook && c.Type == "nat" && c.meets(p) {
			all = append(all, s.nft.throughChain(c, p))
		}
	}
	all = slices.DeleteFunc(all, func(o Outcome) bool { return o.Rule == "" })
	if len(all) == 0 {
		return Outcome{}
	}
	first := max(0, slices.IndexFunc(all, func(o Outcome) bool { return rules.Ours(o.Rule) }))
	found := all[first]
	for _, o := range slices.Delete(all, first, first+1) {
		found.Rivals = append(found.Rivals, o.Rule)
	}
	return found
}
