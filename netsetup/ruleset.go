package netsetup

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Chain is a chain of boxrun's own.
type Chain struct {
	Table  string   `json:"table"`
	Name   string   `json:"name"`
	Shared bool     `json:"shared,omitempty"` // other plans put their rules there, and it goes when it is empty
	Rules  []string `json:"rules,omitempty"`  // all rules of a chain that is not shared
}

// Rule is a rule in a chain that this plan does not own: a built-in one, or a shared one of another plan.
type Rule struct {
	Table string `json:"table"`
	Chain string `json:"chain"`
	First bool   `json:"first,omitempty"` // must come before everybody else's; otherwise the place does not matter
	Spec  string `json:"spec"`
}

// ruleset is the step that puts a plan's chains and rules in place, all in one transaction per table.
type ruleset struct {
	owner  string
	chains []Chain
	rules  []Rule
	flows  *Flows
}

// tableOrder is the order in which tables are written: what protects comes before what publishes. Undo goes backwards.
func tableOrder() []string { return []string{"raw", "mangle", "filter", "nat"} }

func (r *ruleset) String() string { return "the rules of " + r.owner }

func (r *ruleset) record(*Kernel) error { return nil } // what is ours carries our name

func (r *ruleset) commands() (up, down []string) {
	for _, c := range r.chains {
		up = append(up, typed(c.Table, "-N", c.Name, ""))
	}
	for _, c := range r.chains {
		for _, spec := range c.Rules {
			up = append(up, typed(c.Table, "-A", c.Name, spec))
		}
	}
	for _, rule := range r.rules {
		up = append(up, typed(rule.Table, rule.verb(), rule.Chain, rule.Spec))
		down = append(down, typed(rule.Table, "-D", rule.Chain, rule.Spec))
	}
	for _, c := range r.chains {
		if len(c.Rules) > 0 {
			down = append(down, typed(c.Table, "-F", c.Name, ""))
		}
	}
	for _, c := range slices.Backward(r.chains) {
		down = append(down, typed(c.Table, "-X", c.Name, ""))
	}
	flowsUp, flowsDown := r.flows.commands()
	return append(up, flowsUp...), append(down, flowsDown...)
}

// typed is an iptables command as typed.
func typed(table, verb, chain, spec string) string {
	return strings.TrimSpace(strings.Join([]string{"iptables -w -t", table, verb, chain, spec}, " "))
}

func (r Rule) verb() string {
	if r.First {
		return "-I"
	}
	return "-A"
}

func (r *ruleset) check(k *Kernel) ([]string, error) {
	e, err := r.repair(k)
	return e.drift, err
}

// ensure mends all in one go, and then ends the connections that were made under other rules.
func (r *ruleset) ensure(k *Kernel) error {
	e, err := r.repair(k)
	if err != nil || len(e.drift) == 0 {
		return err
	}
	if err := k.restore(e.input(tableOrder())); err != nil {
		return err
	}
	return k.forget(r.flows, false)
}

// edits is what is out of place and the lines of iptables-restore that set it right, by table.
type edits struct {
	drift []string
	lines map[string][]string
}

func (e *edits) add(table, line string) {
	if e.lines == nil {
		e.lines = map[string][]string{}
	}
	e.lines[table] = append(e.lines[table], line)
}

func (e *edits) note(format string, args ...any) {
	e.drift = append(e.drift, fmt.Sprintf(format, args...))
}

// input gives the lines as iptables-restore reads them, tables in the order given.
func (e *edits) input(order []string) []string {
	var input []string
	for _, table := range order {
		if lines := e.lines[table]; len(lines) > 0 {
			input = append(append(append(input, "*"+table), lines...), "COMMIT")
		}
	}
	return input
}

// repair compares the kernel's rules with the plan's.
func (r *ruleset) repair(k *Kernel) (edits, error) {
	var e edits
	have, err := k.rules()
	if err != nil {
		return e, err
	}
	for _, c := range r.chains {
		if err := c.repair(k, have, &e); err != nil {
			return e, err
		}
	}
	var texts []string
	for _, rule := range r.rules {
		rules, _ := have.chain(rule.Table, rule.Chain)
		text, err := rule.text(k, rules)
		if err != nil {
			return e, err
		}
		rule.repair(rules, text, &e)
		texts = append(texts, text)
	}
	r.repairStrays(have, texts, &e)
	return e, nil
}

// repair makes a missing chain and swaps one that holds other rules than it should.
func (c Chain) repair(k *Kernel, have tables, e *edits) error {
	rules, exists := have.chain(c.Table, c.Name)
	if !exists {
		e.note("chain %s/%s is missing", c.Table, c.Name)
	}
	if c.Shared && !exists {
		e.add(c.Table, "-N "+c.Name)
	}
	if c.Shared {
		return nil
	}
	if exists {
		same, err := c.compare(k, rules, e)
		if same || err != nil {
			return err
		}
	}
	e.add(c.Table, fmt.Sprintf(":%s - [0:0]", c.Name)) // makes it, or empties it, in the same transaction
	for _, spec := range c.Rules {
		e.add(c.Table, fmt.Sprintf("-A %s %s", c.Name, spec))
	}
	return nil
}

// compare tells whether the chain holds its rules, in their order and no others, and notes what differs.
func (c Chain) compare(k *Kernel, have []string, e *edits) (bool, error) {
	want := make([]string, len(c.Rules))
	for i, spec := range c.Rules {
		want[i] = normal(spec)
	}
	if slices.Equal(have, want) {
		return true, nil
	}
	lacking, foreign := without(want, have), without(have, want)
	if len(lacking) > 0 && len(lacking) == len(foreign) {
		printed, err := k.allExist(c.Table, c.Name, lacking)
		if printed || err != nil {
			return printed, err // this version of iptables prints them otherwise
		}
	}
	for _, rule := range lacking {
		e.note("chain %s/%s lacks the rule: %s", c.Table, c.Name, rule)
	}
	for _, rule := range foreign {
		e.note("chain %s/%s has a rule that does not belong there: %s", c.Table, c.Name, rule)
	}
	if len(lacking)+len(foreign) == 0 {
		e.note("chain %s/%s has its rules in another order, or twice", c.Table, c.Name)
	}
	return false, nil
}

// without gives those of list that are not in other.
func without(list, other []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(other, s) })
}

// allExist asks iptables for each rule until one is missing.
func (k *Kernel) allExist(table, chain string, rules []string) (bool, error) {
	for _, rule := range rules {
		if ok, err := k.exists(table, chain, rule); !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

// text gives the rule as the listing has it. That is ours, or what this version of iptables makes of it: a rule with the
// same comment and target, if iptables says that ours exists.
func (r Rule) text(k *Kernel, rules []string) (string, error) {
	own := normal(r.Spec)
	i := slices.IndexFunc(rules, func(rule string) bool {
		return comment(rule) == comment(own) && target(rule) == target(own)
	})
	if i < 0 || slices.Contains(rules, own) {
		return own, nil
	}
	if ok, err := k.exists(r.Table, r.Chain, r.Spec); !ok || err != nil {
		return own, err
	}
	return rules[i], nil
}

// repair adds a rule that is missing and moves one that others have put theirs before. Theirs stay as they are.
func (r Rule) repair(rules []string, text string, e *edits) {
	copies := 0
	for _, rule := range rules {
		if rule == text {
			copies++
		}
	}
	switch {
	case copies == 0:
		e.note("chain %s/%s lacks the rule: %s", r.Table, r.Chain, r.Spec)
	case copies > 1:
		e.note("chain %s/%s has %d times the rule: %s", r.Table, r.Chain, copies, r.Spec)
	case r.First && rules[0] != text:
		e.note("chain %s/%s"+overtaken+"%s", r.Table, r.Chain, r.Spec)
	default:
		return
	}
	for range copies {
		e.add(r.Table, fmt.Sprintf("-D %s %s", r.Chain, text))
	}
	e.add(r.Table, fmt.Sprintf("%s %s %s", r.verb(), r.Chain, r.Spec))
}

const overtaken = " has other rules before: "

// Overtaken says of a line that Drift gave whether its rule is in place, and others were put before it.
func Overtaken(drift string) bool { return strings.Contains(drift, overtaken) }

// repairStrays drops, where the plan puts rules, those with its mark or to its chains that are not in the plan: the jump
// for an address that a box no longer has, or one that lets too much through. The texts are those of the plan's rules,
// in order.
func (r *ruleset) repairStrays(have tables, texts []string, e *edits) {
	for _, place := range r.places() {
		rules, _ := have.chain(place.Table, place.Chain)
		for _, rule := range rules {
			ours := comment(rule) == r.owner || r.owns(place.Table, target(rule))
			if ours && !r.wants(place, rule, texts) {
				e.note("chain %s/%s has a rule that is out of date: %s", place.Table, place.Chain, rule)
				e.add(place.Table, fmt.Sprintf("-D %s %s", place.Chain, rule))
			}
		}
	}
}

// wants tells whether a rule in the chain of place is one of the plan's.
func (r *ruleset) wants(place Rule, rule string, texts []string) bool {
	for i, want := range r.rules {
		if want.Table == place.Table && want.Chain == place.Chain && texts[i] == rule {
			return true
		}
	}
	return false
}

// places gives one rule for each chain that the plan puts rules into.
func (r *ruleset) places() []Rule {
	var places []Rule
	for _, rule := range r.rules {
		if !slices.ContainsFunc(places, func(p Rule) bool { return p.Table == rule.Table && p.Chain == rule.Chain }) {
			places = append(places, rule)
		}
	}
	return places
}

// undo removes the rules with the plan's mark, every jump to its chains, and the chains. It goes by what is there, so
// it needs no record. One transaction does it; where that fails, each thing is tried by itself.
func (r *ruleset) undo(k *Kernel) error {
	have, err := k.rules()
	if err != nil {
		return err
	}
	e := r.removal(have)
	if len(e.lines) > 0 {
		order := tableOrder()
		slices.Reverse(order)
		if k.restore(e.input(order)) != nil {
			err = k.removeSingly(e)
		}
	}
	return errors.Join(err, k.forget(r.flows, true))
}

// removal gives the lines that remove the plan's rules and chains.
func (r *ruleset) removal(have tables) edits {
	var e edits
	for _, table := range tableOrder() {
		for _, chain := range slices.Sorted(maps.Keys(have[table])) {
			for _, rule := range have[table][chain] {
				if r.removes(table, chain, rule) {
					e.add(table, fmt.Sprintf("-D %s %s", chain, rule))
				}
			}
		}
	}
	for _, verb := range []string{"-F", "-X"} { // a chain can go when no rule jumps to it
		for _, c := range r.chains {
			if _, exists := have.chain(c.Table, c.Name); exists {
				e.add(c.Table, verb+" "+c.Name)
			}
		}
	}
	return e
}

// removes tells whether a rule is to be deleted: it jumps to one of the plan's chains, or has the plan's mark and stands
// where the plan puts rules. Rules in the plan's chains are flushed with them.
func (r *ruleset) removes(table, chain, rule string) bool {
	if r.owns(table, chain) {
		return false
	}
	here := func(p Rule) bool { return p.Table == table && p.Chain == chain }
	return r.owns(table, target(rule)) || comment(rule) == r.owner && slices.ContainsFunc(r.rules, here)
}

// owns tells whether a chain is one of the plan's.
func (r *ruleset) owns(table, chain string) bool {
	return slices.ContainsFunc(r.chains, func(c Chain) bool { return c.Table == table && c.Name == chain })
}

// inUse tells whether other plans have rules in this one's shared chains.
func (r *ruleset) inUse(have tables) bool {
	return slices.ContainsFunc(r.chains, func(c Chain) bool { return c.Shared && len(have[c.Table][c.Name]) > 0 })
}

// removeSingly does what removal asks for one by one, past errors.
func (k *Kernel) removeSingly(e edits) error {
	k.Reread()
	var errs []error
	for _, table := range slices.Backward(tableOrder()) {
		for _, line := range e.lines[table] {
			verb, rest, _ := strings.Cut(line, " ")
			chain, spec, _ := strings.Cut(rest, " ")
			var err error
			switch verb {
			case "-D":
				err = k.ipt.Delete(table, chain, splitQuoted(spec)...)
			case "-F":
				err = k.ipt.ClearChain(table, chain)
			case "-X":
				err = k.ipt.DeleteChain(table, chain)
			}
			errs = append(errs, ignoreNotExist(err))
		}
	}
	return errors.Join(errs...)
}
