package firewall

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"boxrun/netsetup/rules"
)

// nftRules are the chains of native nftables for IPv4 packets. The chains of iptables' nft backend are left out.
type nftRules struct {
	tables []string
	base   []nftChain // of the host's hooks, by priority
	chains map[string][]nftRule
	sets   map[string][]json.RawMessage
}

type nftChain struct {
	Family, Table, Name string
	Type, Hook, Policy  string
	Prio                int
}

type nftRule struct {
	Family, Table, Chain string
	Handle               int
	Expr                 []nftExpr
}

// nftExpr is an expression by its name. Where nft has no JSON for an expression, such as a jump to a chain without a
// name, nft prints text: such an expression is empty here, and lets a packet go on.
type nftExpr map[string]json.RawMessage

func (e *nftExpr) UnmarshalJSON(text []byte) error {
	if len(text) > 0 && text[0] != '{' {
		return nil
	}
	return json.Unmarshal(text, (*map[string]json.RawMessage)(e))
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
	Elem                []json.RawMessage
}

// readNFT reads the native rules, and returns false where nft is not installed.
func readNFT() (native nftRules, installed bool, err error) {
	if _, err := exec.LookPath("nft"); errors.Is(err, exec.ErrNotFound) {
		return nftRules{}, false, nil
	} else if err != nil {
		return nftRules{}, false, err
	}
	out, err := rules.Run("", "nft", "-j", "list", "ruleset")
	if err != nil {
		return nftRules{}, false, err
	}
	native, err = parseNFT([]byte(out))
	return native, err == nil, err
}

func parseNFT(text []byte) (nftRules, error) {
	var listing struct{ Nftables []nftObject }
	if err := json.Unmarshal(text, &listing); err != nil {
		return nftRules{}, fmt.Errorf("reading what nft -j list ruleset printed: %w", err)
	}
	r := nftRules{chains: map[string][]nftRule{}, sets: map[string][]json.RawMessage{}}
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
	case o.Chain != nil && o.Chain.Hook != "" && meetsIPv4(o.Chain.Family) && !o.Chain.ofIptables():
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

func meetsIPv4(family string) bool { return family == "ip" || family == "inet" }

// ofIptables knows the built-in chains of iptables' nft backend by their capitals. An admin's own table "filter" has a
// chain "forward".
func (c nftChain) ofIptables() bool {
	tables := []string{"raw", "mangle", "nat", "filter", "security"}
	return c.Family == "ip" && slices.Contains(tables, c.Table) && c.Name == strings.ToUpper(c.Name)
}

// only returns the rules with fewer base chains: the chains for which keep returns true.
func (n nftRules) only(keep func(nftChain) bool) nftRules {
	n.base = slices.DeleteFunc(slices.Clone(n.base), func(c nftChain) bool { return !keep(c) })
	return n
}

// nftWalk is a packet on its way through a base chain.
type nftWalk struct {
	course
	n     nftRules
	base  nftChain
	words map[string][]string // of the packet: see wordsOf
}

// through walks the base chains of a hook. The kind is filter or nat. After a chain that accepts, the next chain is
// asked.
func (n nftRules) through(hook, kind string, p Packet) Outcome {
	var all Outcome
	for _, c := range n.base {
		if c.Hook != hook || c.Type != kind {
			continue
		}
		o := n.throughChain(c, p)
		all.Unsure = append(all.Unsure, o.Unsure...)
		if o.Dropped || o.Rule != "" {
			o.Unsure = all.Unsure
			return o
		}
	}
	return all
}

func (n nftRules) throughChain(c nftChain, p Packet) Outcome {
	w := nftWalk{course{p: p}, n, c, wordsOf(p)}
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
	for _, expr := range r.Expr {
		for kind, raw := range expr {
			switch kind {
			case "match":
				switch w.match(raw) {
				case no:
					return goesOn, false
				case perhaps:
					w.doubts++
				}
			case "vmap":
				e, left = w.vmap(r, raw, depth)
			default:
				e, left = w.statement(r, kind, raw, depth)
			}
			if e != goesOn || left {
				return e, left
			}
		}
	}
	return goesOn, false
}

// statement does what ends a rule. Any other statement (counter, log, limit) lets the packet go on.
func (w *nftWalk) statement(r nftRule, kind string, raw json.RawMessage, depth int) (e end, left bool) {
	sure := w.doubts == 0
	switch kind {
	case "accept":
		e = accepts
	case "drop", "reject":
		e = drops
	case "dnat", "redirect":
		if bytes.Contains(raw, []byte(`"map"`)) { // a key outside the map ends the rule
			return goesOn, false
		}
		e = translates
	case "queue", "tproxy":
		e = decidesNot
	case "return":
		return goesOn, sure
	case "jump", "goto":
		var to struct{ Target string }
		if json.Unmarshal(raw, &to) == nil {
			e = w.chain(to.Target, depth+1)
		}
		return e, kind == "goto" && sure
	default:
		return goesOn, false
	}
	return w.meets(e, r.String(), ""), false
}

// vmap looks the packet up among verdicts. An unknown key may lead to any of them.
func (w *nftWalk) vmap(r nftRule, raw json.RawMessage, depth int) (end, bool) {
	var m struct {
		Key  json.RawMessage
		Data json.RawMessage
	}
	if json.Unmarshal(raw, &m) != nil {
		return goesOn, false
	}
	value, known := w.value(m.Key)
	for _, element := range w.elements(m.Data) {
		var pair []json.RawMessage
		if json.Unmarshal(element, &pair) != nil || len(pair) != 2 {
			continue
		}
		hit := perhaps
		if known {
			hit = w.equal(value, pair[0])
		}
		if hit == no {
			continue
		}
		if e, left := w.verdict(r, pair[1], hit, depth); e != goesOn || left {
			return e, left
		}
	}
	return goesOn, false
}

// verdict does what an element of a map says.
func (w *nftWalk) verdict(r nftRule, raw json.RawMessage, hit truth, depth int) (e end, left bool) {
	var verdict map[string]json.RawMessage
	if json.Unmarshal(raw, &verdict) != nil {
		return goesOn, false
	}
	if hit == perhaps {
		w.doubts++
		defer func() { w.doubts-- }()
	}
	for kind, value := range verdict {
		return w.statement(r, kind, value, depth)
	}
	return goesOn, false
}

// match asks a condition.
func (w *nftWalk) match(raw json.RawMessage) truth {
	var m struct {
		Op          string
		Left, Right json.RawMessage
	}
	if json.Unmarshal(raw, &m) != nil {
		return perhaps
	}
	value, known := w.value(m.Left)
	if !known {
		return perhaps
	}
	switch m.Op {
	case "==", "in", "":
		return w.equal(value, m.Right)
	case "!=":
		return w.equal(value, m.Right).not()
	}
	return perhaps
}

// value returns what the packet has where a condition looks: sometimes several words, as a connection has a state and
// may be translated. It returns false for something unknown.
func (w *nftWalk) value(raw json.RawMessage) (values []string, known bool) {
	var left struct {
		Meta    *struct{ Key string }
		Payload *struct{ Protocol, Field string }
		CT      *struct{ Key string }
		Fib     *struct{ Result string }
	}
	if json.Unmarshal(raw, &left) != nil {
		return nil, false
	}
	key := ""
	switch {
	case left.Meta != nil:
		key = "meta " + left.Meta.Key
	case left.Payload != nil:
		key = left.Payload.Protocol + " " + left.Payload.Field
		if !slices.Contains([]string{"ip", "th", w.p.Proto}, left.Payload.Protocol) {
			return []string{""}, true // the packet has no such header
		}
	case left.CT != nil:
		key = "ct " + left.CT.Key
	case left.Fib != nil:
		key = "fib " + left.Fib.Result
	}
	values, known = w.words[key]
	return values, known
}

// wordsOf returns what is known of a packet, by the words of nft's questions: "ip saddr", "ct state".
func wordsOf(p Packet) map[string][]string {
	words := map[string][]string{
		"meta l4proto": {p.Proto}, "meta protocol": {"ip"}, "meta nfproto": {"ipv4"}, "meta mark": {"0"},
		"ip protocol": {p.Proto}, "ct state": {"new"}, "ct status": {"none"}, "ct mark": {"0"}, "fib type": {"unicast"},
	}
	add := func(known bool, word string, keys ...string) {
		for _, key := range keys {
			if known {
				words[key] = []string{word}
			}
		}
	}
	add(p.In != "", p.In, "meta iif", "meta iifname")
	add(p.Out != "", p.Out, "meta oif", "meta oifname")
	add(p.Src.IsValid(), p.Src.String(), "ip saddr")
	add(p.Dst.IsValid(), p.Dst.String(), "ip daddr")
	add(true, strconv.Itoa(int(p.DPort)), "th dport", p.Proto+" dport")
	add(p.SPort != 0, strconv.Itoa(int(p.SPort)), "th sport", p.Proto+" sport")
	add(p.ToHost, "local", "fib type")
	add(p.Reply, "established", "ct state")
	if p.Translated {
		words["ct status"] = append(words["ct status"], "dnat")
	}
	if p.Reply {
		words["ct status"] = append(words["ct status"], "seen-reply", "assured", "confirmed")
	}
	return words
}

// equal reports whether any of the values is the right side of a condition: a word, a number, a prefix, a range, a set
// of these, or a set by its name.
func (w *nftWalk) equal(values []string, right json.RawMessage) truth {
	var word string
	if json.Unmarshal(right, &word) == nil && strings.HasPrefix(word, "@") {
		return w.among(values, w.elements(right))
	}
	var list []json.RawMessage
	if json.Unmarshal(right, &list) == nil {
		return w.among(values, list)
	}
	var r struct {
		Prefix *struct {
			Addr string
			Len  int
		}
		Range []json.RawMessage
		Set   []json.RawMessage
		Elem  *struct{ Val json.RawMessage }
	}
	if json.Unmarshal(right, &r) != nil {
		return truthOf(slices.ContainsFunc(values, func(v string) bool { return sameWord(v, scalar(right)) }))
	}
	switch {
	case r.Set != nil:
		return w.among(values, r.Set)
	case r.Elem != nil:
		return w.equal(values, r.Elem.Val)
	case r.Prefix != nil:
		return inPrefix(values, fmt.Sprintf("%s/%d", r.Prefix.Addr, r.Prefix.Len))
	case len(r.Range) == 2:
		return inRange(values, scalar(r.Range[0]), scalar(r.Range[1]))
	}
	return perhaps
}

func (w *nftWalk) among(values []string, list []json.RawMessage) truth {
	result := no
	for _, element := range list {
		result = max(result, w.equal(values, element))
	}
	return result
}

// elements returns the elements of an anonymous set or map, or of a set named "@name".
func (w *nftWalk) elements(raw json.RawMessage) []json.RawMessage {
	var name string
	if json.Unmarshal(raw, &name) == nil {
		return w.n.sets[nftKey(w.base.Family, w.base.Table, strings.TrimPrefix(name, "@"))]
	}
	var anonymous struct{ Set []json.RawMessage }
	if json.Unmarshal(raw, &anonymous) == nil {
		return anonymous.Set
	}
	return nil
}

// scalar returns a word or a number as text.
func scalar(raw json.RawMessage) string {
	var word string
	if json.Unmarshal(raw, &word) == nil {
		return word
	}
	return string(raw)
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
