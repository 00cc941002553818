package firewall

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"boxrun/netsetup/rules"
)

// nftRules are the chains of native nftables for IPv4 and IPv6 packets. The chains of iptables' nft backend are left out.
type nftRules struct {
	tables []string
	base   []nftChain // of the host's hooks, by priority
	chains map[string][]nftRule
	sets   map[string][]node

	translates bool // a rule may give a packet another destination
}

type nftChain struct {
	Family, Table, Name string
	Type, Hook, Policy  string
	Prio                int
	Dev                 node // of a chain of devices: a name, or several
}

// nftRule is a rule with its expressions. Where nft has no JSON for an expression, such as a jump to a chain without a
// name, nft prints a word: such an expression lets a packet go on.
type nftRule struct {
	Family, Table, Chain string
	Handle               int
	Expr                 expressions
}

// expressions are a list of JSON, read when a packet first meets the rule: a firewall may have hundreds of rules, and a
// packet meets few.
type expressions struct{ read func() []node }

// UnmarshalJSON keeps a copy of the text, which package json has found to be valid.
func (e *expressions) UnmarshalJSON(text []byte) error {
	text = bytes.Clone(text)
	if !bytes.HasPrefix(text, []byte("[")) {
		return fmt.Errorf("expressions of a rule are no list: %s", text)
	}
	e.read = sync.OnceValue(func() (nodes []node) {
		_ = json.Unmarshal(text, &nodes) // a list of anything is a list of nodes
		return nodes
	})
	return nil
}

// nodes returns none for a rule without expressions.
func (e expressions) nodes() []node {
	if e.read == nil {
		return nil
	}
	return e.read()
}

// nftObject is an element of the output of "nft -j list ruleset".
type nftObject struct {
	Table *struct{ Family, Name string }
	Chain *nftChain
	Rule  *nftRule
	Set   *nftSet
	Map   *nftSet
}

type nftSet struct {
	Family, Table, Name string
	Elem                []node
}

// readNFT reads the native rules, and returns false where nft is not installed. Where packets meet none, nft is not started.
func readNFT(kept rules.Memory) (native nftRules, installed bool, err error) {
	out, err := kept.NFT(func(chains []rules.BaseChain) bool {
		return slices.ContainsFunc(chains, func(c rules.BaseChain) bool {
			return !nftChain{Family: c.Family, Table: c.Table, Name: c.Name}.ofIptables()
		})
	})
	if errors.Is(err, exec.ErrNotFound) {
		return nftRules{}, false, nil
	}
	if err == nil {
		native, err = parseNFT([]byte(out))
	}
	return native, err == nil, err
}

func parseNFT(text []byte) (nftRules, error) {
	var listing struct{ Nftables []nftObject }
	if err := json.Unmarshal(text, &listing); err != nil {
		return nftRules{}, fmt.Errorf("reading what nft -j list ruleset printed: %w", err)
	}
	r := nftRules{chains: map[string][]nftRule{}, sets: map[string][]node{}}
	r.translates = bytes.Contains(text, []byte(`"dnat":`)) || bytes.Contains(text, []byte(`"redirect":`))
	for _, o := range listing.Nftables {
		r.add(o)
	}
	slices.SortStableFunc(r.base, func(a, b nftChain) int { return a.Prio - b.Prio })
	return r, nil
}

func (n *nftRules) add(o nftObject) {
	switch {
	case o.Table != nil:
		n.tables = append(n.tables, o.Table.Name)
	case o.Chain != nil && o.Chain.Hook != "" && !o.Chain.ofIptables():
		n.base = append(n.base, *o.Chain)
	case o.Rule != nil:
		key := nftKey(o.Rule.Family, o.Rule.Table, o.Rule.Chain)
		n.chains[key] = append(n.chains[key], *o.Rule)
	case o.Set != nil:
		n.sets[nftKey(o.Set.Family, o.Set.Table, o.Set.Name)] = o.Set.Elem
	case o.Map != nil:
		n.sets[nftKey(o.Map.Family, o.Map.Table, o.Map.Name)] = o.Map.Elem
	}
}

func nftKey(family, table, name string) string { return family + " " + table + " " + name }

// meets reports whether packets like p come to the chain. Those on bridges are asked by onBridge alone.
func (c nftChain) meets(p Packet) bool {
	switch c.Hook {
	case "ingress":
		return c.of(p.From) || c.of(p.In)
	case "egress":
		return c.of(p.Out) || c.of(p.Into)
	}
	return c.Family == "inet" || c.Family == p.family()
}

// of reports whether a device is among the chain's.
func (c nftChain) of(device string) bool {
	named := func(n node) bool { return sameWord(device, n.word) }
	return device != "" && (c.Dev.word != "" && named(c.Dev) || slices.ContainsFunc(c.Dev.list, named))
}

// family returns nft's word for the family of the packet.
func (p Packet) family() string {
	if p.six() {
		return "ip6"
	}
	return "ip"
}

// ofIptables knows the built-in chains of iptables' nft backend by their capitals. An admin's own table "filter" has a
// chain "forward".
func (c nftChain) ofIptables() bool {
	tables := []string{"raw", "mangle", "nat", "filter", "security"}
	return (c.Family == "ip" || c.Family == "ip6") && slices.Contains(tables, c.Table) && c.Name == strings.ToUpper(c.Name)
}

// only returns the rules with fewer base chains: the chains for which keep returns true.
func (n nftRules) only(keep func(nftChain) bool) nftRules {
	n.base = slices.DeleteFunc(slices.Clone(n.base), func(c nftChain) bool { return !keep(c) })
	return n
}

// nftWalk is a packet on its way through a base chain.
type nftWalk struct {
	course
	n    nftRules
	base nftChain
}

// through walks the base chains of a hook. The kind is filter or nat. After a chain that accepts, the next chain is
// asked.
func (n nftRules) through(hook, kind string, p Packet) Outcome {
	var outcomes []Outcome
	for _, c := range n.base {
		if c.Hook == hook && c.Type == kind && c.meets(p) {
			outcomes = append(outcomes, n.throughChain(c, p))
		}
	}
	return inTurn(outcomes...)
}

// onBridge walks the chains of bridges at the hooks, where the device is a bridge, and the chains that the host's ARP on the
// bridge meets. In chains of bridges a packet has the names of ports.
func (n nftRules) onBridge(device string, p Packet, hooks ...string) Outcome {
	if !slices.ContainsFunc(n.base, nftChain.ofFrames) {
		return Outcome{}
	}
	if _, err := os.Stat(filepath.Join("/sys/class/net", device, "bridge")); device == "" || err != nil {
		return Outcome{}
	}
	p.In, p.Out = p.From, p.Into
	var outcomes []Outcome
	for _, c := range n.base {
		switch {
		case c.Family == "bridge" && c.Type == "filter" && slices.Contains(hooks, c.Hook):
			outcomes = append(outcomes, n.throughChain(c, p))
		case c.Family == "arp" && !p.six() && c.Hook == "input":
			outcomes = append(outcomes, n.throughChain(c, Packet{In: device, Proto: "arp"}))
		case c.Family == "arp" && !p.six() && c.Hook == "output":
			outcomes = append(outcomes, n.throughChain(c, Packet{Out: device, Proto: "arp"}))
		}
	}
	return inTurn(outcomes...)
}

// ofFrames reports whether what meets the chain is no packet of IP: a frame on a bridge, or one of ARP.
func (c nftChain) ofFrames() bool { return c.Family == "bridge" || c.Family == "arp" }

func (n nftRules) throughChain(c nftChain, p Packet) Outcome {
	w := nftWalk{course{p: p}, n, c}
	e := w.chain(c.Name, 0)
	policy := ""
	if c.Policy == "drop" {
		policy = fmt.Sprintf("nft chain %s %s %s { policy drop; }", c.Family, c.Table, c.Name)
	}
	return w.finish(e, policy)
}

func (w *nftWalk) chain(name string, depth int) end {
	if depth > maxJumps {
		return goesOn
	}
	for _, r := range w.n.chains[nftKey(w.base.Family, w.base.Table, name)] {
		e, left := w.rule(r, depth)
		if e != goesOn || left {
			return e
		}
	}
	return goesOn
}

// rule runs the expressions of a rule from left to right. Left reports whether the packet leaves the chain.
func (w *nftWalk) rule(r nftRule, depth int) (e end, left bool) {
	before := w.doubts
	defer func() { w.doubts = before }()
	for _, expr := range r.Expr.nodes() {
		for kind, of := range expr.fields {
			switch kind {
			case "match":
				switch w.match(of) {
				case no:
					return goesOn, false
				case perhaps:
					w.doubts++
				}
			case "vmap":
				e, left = w.vmap(r, of, depth)
			default:
				e, left = w.statement(r, kind, of, depth)
			}
			if e != goesOn || left {
				return e, left
			}
		}
	}
	return goesOn, false
}

// statement does what ends a rule. Any other statement (counter, log, limit) lets the packet go on.
func (w *nftWalk) statement(r nftRule, kind string, of node, depth int) (e end, left bool) {
	sure := w.doubts == 0
	switch kind {
	case "accept":
		e = accepts
	case "drop", "reject":
		e = drops
	case "dnat", "redirect":
		if of.holds("map") { // a key outside the map ends the rule
			return goesOn, false
		}
		e = translates
	case "queue", "tproxy":
		e = decidesNot
	case "return":
		return goesOn, sure
	case "jump", "goto":
		return w.chain(of.at("target").word, depth+1), kind == "goto" && sure
	default:
		w.untracksNative(r, kind, of)
		return goesOn, false
	}
	return w.meets(e, r.String(), ""), false
}

// vmap looks the packet up among verdicts. An unknown key may lead to any of them.
func (w *nftWalk) vmap(r nftRule, m node, depth int) (end, bool) {
	for _, pair := range w.elements(m.at("data")) {
		if len(pair.list) != 2 {
			continue
		}
		hit := w.keyed(m.at("key"), pair.list[0])
		if hit == no {
			continue
		}
		if e, left := w.verdict(r, pair.list[1], hit, depth); e != goesOn || left {
			return e, left
		}
	}
	return goesOn, false
}

// keyed reports whether the packet has the key of an element of a map: each part of a key of several parts. Of turns that
// packets take the first stands for all.
func (w *nftWalk) keyed(key, element node) truth {
	parts, words := key.at("concat").list, element.at("concat").list
	if len(parts) > 0 && len(parts) == len(words) {
		result := yes
		for i, part := range parts {
			result = min(result, w.keyed(part, words[i]))
		}
		return result
	}
	if key.has("numgen") {
		return w.equal([]string{key.at("numgen", "offset").word}, element)
	}
	values, known := w.value(key)
	if !known {
		return perhaps
	}
	return w.equal(values, element)
}

// verdict does what an element of a map says.
func (w *nftWalk) verdict(r nftRule, verdict node, hit truth, depth int) (e end, left bool) {
	if hit == perhaps {
		w.doubts++
		defer func() { w.doubts-- }()
	}
	for kind, of := range verdict.fields {
		return w.statement(r, kind, of, depth)
	}
	return goesOn, false
}

// match asks a condition.
func (w *nftWalk) match(condition node) truth {
	values, known := w.value(condition.at("left"))
	if !known {
		return perhaps
	}
	switch condition.at("op").word {
	case "==", "in", "":
		return w.equal(values, condition.at("right"))
	case "!=":
		return w.equal(values, condition.at("right")).not()
	}
	return perhaps
}

// value returns what the packet has where a condition looks: sometimes several words, as a connection has a state and
// may be translated. It returns false for something unknown.
func (w *nftWalk) value(left node) (values []string, known bool) {
	key := ""
	switch {
	case left.has("meta"):
		key = "meta " + left.at("meta", "key").word
	case left.has("payload"):
		protocol := left.at("payload", "protocol").word
		if !slices.Contains([]string{w.p.family(), "th", "ether", w.p.Proto}, protocol) {
			return []string{""}, true // the packet has no such header
		}
		key = protocol + " " + left.at("payload", "field").word
	case left.has("ct"):
		key = "ct " + left.at("ct", "key").word
	case left.has("fib"):
		key = "fib " + left.at("fib", "result").word
	}
	return wordsOf(w.p, key)
}

// wordsOf returns what is known of a packet, by the words of nft's questions: "ip saddr", "ct state".
func wordsOf(p Packet, key string) (words []string, known bool) {
	ip := p.family()
	only := func(known bool, word string) ([]string, bool) { return []string{word}, known }
	switch key {
	case "th dport", p.Proto + " dport":
		return only(true, strconv.Itoa(int(p.DPort)))
	case "th sport", p.Proto + " sport":
		return only(p.SPort != 0, strconv.Itoa(int(p.SPort)))
	case "meta l4proto", "ip protocol", "ip6 nexthdr":
		return only(true, p.Proto)
	case "meta protocol", "ether type":
		return only(true, ip)
	case "meta nfproto":
		return only(true, map[string]string{"ip": "ipv4", "ip6": "ipv6"}[ip])
	case "meta mark", "ct mark":
		return only(true, "0")
	case "meta iif", "meta iifname":
		return only(p.In != "", p.In)
	case "meta oif", "meta oifname":
		return only(p.Out != "", p.Out)
	case ip + " saddr":
		return only(p.Src.IsValid(), p.Src.String())
	case ip + " daddr":
		return only(p.Dst.IsValid(), p.Dst.String())
	}
	return ofConnection(p, key)
}

// ofConnection is wordsOf for questions about the connection, and about who has the destination.
func ofConnection(p Packet, key string) (words []string, known bool) {
	switch key {
	case "fib type":
		return []string{map[bool]string{true: "local", false: "unicast"}[p.ToHost]}, true
	case "ct state":
		return []string{map[bool]string{true: "established", false: "new"}[p.Reply]}, true
	case "ct status":
		words = []string{"none"}
		if p.Translated {
			words = append(words, "dnat")
		}
		if p.Reply {
			words = append(words, "seen-reply", "assured", "confirmed")
		}
		return words, true
	}
	return nil, false
}

// equal reports whether any of the values is the right side of a condition: a word, a number, a prefix, a range, a set
// of these, or a set by its name.
func (w *nftWalk) equal(values []string, right node) truth {
	switch {
	case strings.HasPrefix(right.word, "@"), right.has("set"):
		return w.among(values, w.elements(right))
	case right.word != "":
		return truthOf(slices.ContainsFunc(values, func(v string) bool { return sameWord(v, right.word) }))
	case right.list != nil:
		return w.among(values, right.list)
	case right.has("elem"):
		return w.equal(values, right.at("elem", "val"))
	case right.has("prefix"):
		return inPrefix(values, right.at("prefix", "addr").word+"/"+right.at("prefix", "len").word)
	case len(right.at("range").list) == 2:
		return inRange(values, right.at("range").list[0].word, right.at("range").list[1].word)
	}
	return perhaps
}

func (w *nftWalk) among(values []string, list []node) truth {
	result := no
	for _, element := range list {
		result = max(result, w.equal(values, element))
	}
	return result
}

// elements returns the elements of an anonymous set or map, or of a set named "@name".
func (w *nftWalk) elements(set node) []node {
	if set.word != "" {
		return w.n.sets[nftKey(w.base.Family, w.base.Table, strings.TrimPrefix(set.word, "@"))]
	}
	return set.at("set").list
}

// sameWord compares; a device may end in a "*".
func sameWord(value, word string) bool {
	if prefix, ok := strings.CutSuffix(word, "*"); ok {
		return strings.HasPrefix(value, prefix)
	}
	return value == word
}

func inPrefix(values []string, prefix string) truth {
	p, err := netip.ParsePrefix(prefix)
	if err != nil {
		return perhaps
	}
	return truthOf(slices.ContainsFunc(values, func(v string) bool {
		addr, err := netip.ParseAddr(v)
		return err == nil && p.Contains(addr)
	}))
}

// inRange compares ports or addresses.
func inRange(values []string, first, last string) truth {
	for _, v := range values {
		n, errN := strconv.Atoi(v)
		a, errA := strconv.Atoi(first)
		b, errB := strconv.Atoi(last)
		if errN == nil && errA == nil && errB == nil {
			return truthOf(a <= n && n <= b)
		}
		addr, errN := netip.ParseAddr(v)
		from, errA := netip.ParseAddr(first)
		to, errB := netip.ParseAddr(last)
		if errN == nil && errA == nil && errB == nil {
			return truthOf(!addr.Less(from) && !to.Less(addr))
		}
	}
	return no
}

// String names the rule by its place. "nft -a list chain" prints the rule's words.
func (r nftRule) String() string {
	return fmt.Sprintf("nft rule %s %s %s handle %d", r.Family, r.Table, r.Chain, r.Handle)
}
