package netsetup

import (
	"net/netip"
	"slices"
	"strings"
)

// Packet is what rules look at.
type Packet struct {
	In, Out      string // devices; Out is "" before routing
	Src, Dst     netip.Addr
	Proto        string // tcp | udp
	SPort, DPort uint16
	Reply        bool // of a connection that was let through: state ESTABLISHED; otherwise its first packet, NEW
	Translated   bool // the destination of its connection was translated: state DNAT
	ToHost       bool // Dst is an address of the host
}

// Outcome is how the walk of a packet through rules ended.
type Outcome struct {
	Dropped bool
	Rule    string   // what dropped it, or translated it, as a person would type or list it
	To      string   // where a translation sends it, in iptables' words: "10.22.0.2:80"
	Unsure  []string // rules that drop it or not, by what is not known here: a mark, a set, the time
	Rivals  []string // rules that translate it where they are asked before Rule: see Translation
}

// walk is one packet on its way through the chains of one table.
type walk struct {
	t      ruleTable
	p      Packet
	doubts int // how many jumps on the way here depend on what is not known
	out    Outcome
	maybe  bool // a rule that may have accepted the packet was passed
}

// end says what a rule or a chain does with a packet.
type end int

const (
	goesOn     end = iota // to the next rule, or to the caller's
	accepts               // the table is done with it
	drops                 // it is gone
	translates            // DNAT, and the table is done with it
)

// through walks a built-in chain. A table without it has nothing to say.
func (t ruleTable) through(chain string, p Packet) Outcome {
	w := walk{t: t, p: p}
	e := w.chain(chain, 0)
	policy := t.policies[chain]
	switch {
	case e == drops && w.maybe: // what dropped it may not have been asked
		return Outcome{Unsure: append(w.out.Unsure, w.out.Rule)}
	case e == goesOn && policy == "DROP" && w.maybe:
		return Outcome{Unsure: append(w.out.Unsure, t.policyText(chain))}
	case e == goesOn && policy == "DROP":
		return Outcome{Dropped: true, Rule: t.policyText(chain), Unsure: w.out.Unsure}
	}
	w.out.Dropped = e == drops
	return w.out
}

// chain walks the rules of a chain.
func (w *walk) chain(name string, depth int) end {
	if depth > maxJumps {
		return goesOn
	}
	for _, r := range w.t.rules[name] {
		m := r.matches(w.p)
		if m == no {
			continue
		}
		if m == perhaps {
			w.doubts++
		}
		e := w.rule(name, r, depth)
		if m == perhaps {
			w.doubts--
		}
		if e != goesOn || r.leaves() && m == yes {
			return e
		}
	}
	return goesOn
}

// rule does what a rule says that the packet matches, or may match: then nothing it does is certain.
func (w *walk) rule(chain string, r walkRule, depth int) end {
	e := goesOn
	switch r.target {
	case "ACCEPT":
		e = accepts
	case "DROP", "REJECT":
		e = drops
	case "DNAT", "REDIRECT":
		e = translates
	case "NFQUEUE", "TPROXY":
		w.out.Unsure = append(w.out.Unsure, w.t.ruleText(chain, r))
	default: // RETURN, a chain, or one that lets the packet go on: LOG, MARK, TCPMSS
		return w.chain(r.target, depth+1)
	}
	switch {
	case w.doubts > 0 && e == accepts:
		w.maybe = true
	case w.doubts > 0 && e == drops:
		w.out.Unsure = append(w.out.Unsure, w.t.ruleText(chain, r))
	case e == drops:
		w.out.Rule = w.t.ruleText(chain, r)
	case e == translates && w.doubts == 0:
		w.out.Rule, w.out.To = w.t.ruleText(chain, r), r.to
	}
	if w.doubts > 0 {
		return goesOn
	}
	return e
}

// Forwarded walks a packet that the host forwards: in by p.In, translated to the address and port given (the zero
// AddrPort where it is not), out by p.Out. It tells the first rule that drops it, of iptables in either backend or of
// native nftables.
func (f Firewall) Forwarded(p Packet, to netip.AddrPort) Outcome {
	before, after := p, p
	before.Out = ""
	if to.IsValid() {
		after.Dst, after.DPort, after.Translated, after.ToHost = to.Addr(), to.Port(), true, false
	}
	var unsure []string
	for _, at := range []struct {
		hook   string
		tables []string
		p      Packet
	}{
		{"prerouting", []string{"raw", "mangle"}, before},
		{"forward", []string{"mangle", "filter", "security"}, after},
		{"postrouting", []string{"mangle"}, after},
	} {
		o := f.at(at.hook, at.tables, at.p)
		unsure = append(unsure, o.Unsure...)
		if o.Dropped {
			o.Unsure = unsure
			return o
		}
	}
	return Outcome{Unsure: unsure}
}

// at walks a packet through all rules of one hook.
func (f Firewall) at(hook string, names []string, p Packet) Outcome {
	var unsure []string
	for _, name := range names {
		for _, t := range f.tables {
			if t.name != name {
				continue
			}
			o := t.through(strings.ToUpper(hook), p)
			if unsure = append(unsure, o.Unsure...); o.Dropped {
				o.Unsure = unsure
				return o
			}
		}
	}
	o := f.nft.through(hook, "filter", p)
	o.Unsure = append(unsure, o.Unsure...)
	return o
}

// Translation tells which rule translates the destination of a new packet, and to where; no Rule where none does. The
// hook is prerouting, or output for packets of the host itself. The first translation counts, and chains are asked by
// priority. Of several at one, the one that was made last is asked first, which cannot be seen: Rule is boxrun's then, if it
// has one there, and Rivals are the others.
func (f Firewall) Translation(hook string, p Packet) Outcome {
	before := f.nft.only(func(c nftChain) bool { return c.Prio < dstnat }).through(hook, "nat", p)
	after := f.nft.only(func(c nftChain) bool { return c.Prio > dstnat }).through(hook, "nat", p)
	for _, o := range []Outcome{before, f.translations(hook, p), after} {
		if o.Rule != "" {
			return o
		}
	}
	return Outcome{}
}

// dstnat is the priority of PREROUTING and OUTPUT of iptables' nat, in both backends (NF_IP_PRI_NAT_DST).
const dstnat = -100

// translations asks all chains of the priority dstnat.
func (f Firewall) translations(hook string, p Packet) Outcome {
	var all []Outcome
	for _, t := range f.tables {
		if t.name == "nat" {
			all = append(all, t.through(strings.ToUpper(hook), p))
		}
	}
	for _, c := range f.nft.base {
		if c.Prio == dstnat {
			all = append(all, f.nft.only(func(other nftChain) bool { return other == c }).through(hook, "nat", p))
		}
	}
	all = slices.DeleteFunc(all, func(o Outcome) bool { return o.Rule == "" })
	if len(all) == 0 {
		return Outcome{}
	}
	first := max(0, slices.IndexFunc(all, func(o Outcome) bool { return Ours(o.Rule) }))
	found := all[first]
	for i, o := range all {
		if i != first {
			found.Rivals = append(found.Rivals, o.Rule)
		}
	}
	return found
}

// Ours says whether a rule that a walk named is boxrun's.
func Ours(rule string) bool {
	fields := splitQuoted(rule)
	return strings.HasPrefix(comment(rule), "boxrun:") || slices.ContainsFunc(fields, func(s string) bool {
		return strings.HasPrefix(s, "BOXRUN-")
	})
}
