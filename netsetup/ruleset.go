package netsetup

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"boxrun/netsetup/dump"
	"boxrun/netsetup/rules"
)

// Chain is a chain of boxrun's own.
type Chain struct {
	Table  string   `json:"table"`
	Name   string   `json:"name"`
	Shared bool     `json:"shared,omitempty"` // other plans put rules there; the chain goes when the last rule has gone
	Rules  []string `json:"rules,omitempty"`  // all rules, unless the chain is shared
}

// Rule is a rule in a chain of others: a built-in chain, or a shared chain of another plan.
type Rule struct {
	Table string `json:"table"`
	Chain string `json:"chain"`
	First bool   `json:"first,omitempty"` // must come before everybody else's rules; else the place does not matter
	Spec  string `json:"spec"`
}

// rulesets is the step for a plan's chains and rules: a ruleset for each family with any.
type rulesets []*ruleset

// ruleset is the chains and rules of a family, in a transaction per table.
type ruleset struct {
	family family
	owner  string
	chains []Chain
	rules  []Rule
	flows  *Flows
}

// rulesets returns the step for the chains and rules of the plan.
func (p Plan) rulesets() rulesets {
	all := rulesets{{v4, p.Owner, p.Chains, p.Rules, p.Flows}, {v6, p.Owner, p.Chains6, p.Rules6, p.Flows6}}
	return slices.DeleteFunc(all, func(r *ruleset) bool { return len(r.chains)+len(r.rules) == 0 })
}

// tableOrder returns the tables in the order of writing: what protects comes before what publishes. Undo goes
// backwards.
func tableOrder() []string { return []string{"raw", "mangle", "filter", "nat"} }

func (rs rulesets) String() string { return "the rules of " + rs[0].owner }

func (rs rulesets) record(*Kernel) error { return nil } // rules carry their owner's mark

func (rs rulesets) commands() (up, down []string) {
	for _, r := range rs {
		ups, downs := r.commands()
		up, down = append(up, ups...), append(down, downs...)
	}
	return up, down
}

func (r *ruleset) commands() (up, down []string) {
	for _, c := range r.chains {
		up = append(up, r.typed(c.Table, "-N", c.Name, ""))
	}
	for _, c := range r.chains {
		for _, spec := range c.Rules {
			up = append(up, r.typed(c.Table, "-A", c.Name, spec))
		}
	}
	for _, rule := range r.rules {
		up = append(up, r.typed(rule.Table, rule.verb(), rule.Chain, rule.Spec))
		down = append(down, r.typed(rule.Table, "-D", rule.Chain, rule.Spec))
	}
	for _, c := range r.chains {
		if len(c.Rules) > 0 {
			down = append(down, r.typed(c.Table, "-F", c.Name, ""))
		}
	}
	for _, c := range slices.Backward(r.chains) {
		down = append(down, r.typed(c.Table, "-X", c.Name, ""))
	}
	flowsUp, flowsDown := r.flows.commands()
	return append(up, flowsUp...), append(down, flowsDown...)
}

// typed returns an iptables command as a person types the command.
func (r *ruleset) typed(table, verb, chain, spec string) string {
	return strings.TrimSpace(strings.Join([]string{string(r.family), "-w -t", table, verb, chain, spec}, " "))
}

func (r Rule) verb() string {
	if r.First {
		return "-I"
	}
	return "-A"
}

func (rs rulesets) check(k *Kernel) ([]string, error) {
	all, err := rs.repair(k)
	var drift []string
	for _, e := range all {
		drift = append(drift, e.drift...)
	}
	return drift, err
}

// repair returns the edits of each family, in the order of the rulesets.
func (rs rulesets) repair(k *Kernel) ([]edits, error) {
	return rs.eachRead(k, func(r *ruleset, have rules.Tables) (edits, error) { return r.repair(k, have) })
}

// eachRead gives the rules of its family to each ruleset. The families are read side by side.
func (rs rulesets) eachRead(k *Kernel, do func(r *ruleset, have rules.Tables) (edits, error)) ([]edits, error) {
	if err := k.readRules(rs); err != nil {
		return nil, err
	}
	var all []edits
	for _, r := range rs {
		e, err := do(r, k.kept[r.family].Tables())
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}

// ensure repairs everything in a single transaction per table, and then ends the connections made under other rules.
func (rs rulesets) ensure(k *Kernel) error {
	all, err := rs.repair(k)
	if err != nil {
		return err
	}
	if err := joined(rs.restore(k, all, tableOrder())); err != nil {
		return err
	}
	var drifted rulesets
	for i, r := range rs {
		if len(all[i].drift) > 0 {
			drifted = append(drifted, r)
		}
	}
	return k.forget(drifted, toBox)
}

// restore writes the edits of each family, and returns the errors by family.
func (rs rulesets) restore(k *Kernel, all []edits, order []string) map[string]error {
	inputs := map[string][]string{}
	for i, r := range rs {
		if len(all[i].lines) > 0 {
			inputs[string(r.family)] = all[i].input(order)
		}
	}
	return k.restoreAll(inputs)
}

// joined joins errors by family.
func joined(errs map[string]error) error {
	if err := errs[string(v6)]; err != nil && errs[string(v4)] == nil {
		return of6{err}
	}
	return errors.Join(errs[string(v4)], errs[string(v6)])
}

// edits is what is out of place, and the lines of iptables-restore that set things right, by table.
type edits struct {
	drift []string
	lines map[string][]string
	found bool // some chain or rule of the plan is there
}

func (e *edits) add(table, format string, args ...any) {
	if e.lines == nil {
		e.lines = map[string][]string{}
	}
	e.lines[table] = append(e.lines[table], fmt.Sprintf(format, args...))
}

func (e *edits) note(format string, args ...any) {
	e.drift = append(e.drift, fmt.Sprintf(format, args...))
}

// input returns the lines as iptables-restore reads them, tables in the order given.
func (e *edits) input(order []string) []string {
	var input []string
	for _, table := range order {
		if lines := e.lines[table]; len(lines) > 0 {
			input = append(append(append(input, "*"+table), lines...), "COMMIT")
		}
	}
	return input
}

// repair compares the kernel's rules with the plan's, and returns what to change.
func (r *ruleset) repair(k *Kernel, have rules.Tables) (edits, error) {
	var e edits
	for _, c := range r.chains {
		if err := c.repair(k, r.family, have, &e); err != nil {
			return e, err
		}
	}
	wanted := map[place][]string{}
	for _, rule := range r.rules {
		list := have.Rules(rule.Table, rule.Chain)
		text, err := rule.text(k, r.family, list)
		if err != nil {
			return e, err
		}
		rule.repair(list, text, &e)
		wanted[rule.place()] = append(wanted[rule.place()], text)
	}
	r.repairStrays(have, wanted, &e)
	return e, nil
}

// repair makes a missing chain, and fills a chain anew if the chain holds other rules than it should.
func (c Chain) repair(k *Kernel, f family, have rules.Tables, e *edits) error {
	exists := have.Has(c.Table, c.Name)
	e.found = e.found || exists
	if !exists {
		e.note("chain %s/%s is missing", c.Table, c.Name)
	}
	if c.Shared && !exists {
		e.add(c.Table, "-N %s", c.Name)
	}
	if c.Shared {
		return nil
	}
	if exists {
		same, err := c.compare(k, f, have.Rules(c.Table, c.Name), e)
		if same || err != nil {
			return err
		}
	}
	e.add(c.Table, ":%s - [0:0]", c.Name) // makes the chain, or empties the chain, in the same transaction
	for _, spec := range c.Rules {
		e.add(c.Table, "-A %s %s", c.Name, spec)
	}
	return nil
}

// compare reports whether the chain holds its rules and no others, in order, and notes what differs.
func (c Chain) compare(k *Kernel, f family, list []rules.Rule, e *edits) (bool, error) {
	var have, want []string
	for _, rule := range list {
		have = append(have, rule.Text)
	}
	for _, spec := range c.Rules {
		want = append(want, rules.Normal(spec))
	}
	if slices.Equal(have, want) {
		return true, nil
	}
	lacking, foreign := dump.Without(want, have), dump.Without(have, want)
	if len(lacking) > 0 && len(lacking) == len(foreign) {
		printed, err := k.allExist(f, c.Table, c.Name, lacking)
		if printed || err != nil {
			return printed, err // this version of iptables prints the rules in other words
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

// allExist asks iptables for each rule until a rule is missing.
func (k *Kernel) allExist(f family, table, chain string, specs []string) (bool, error) {
	for _, spec := range specs {
		if ok, err := k.exists(f, table, chain, spec); !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

// text returns the rule as listed by the kernel: boxrun's text, or what this version of iptables makes of boxrun's
// text. The latter is a rule with the same comment and target, if iptables says that boxrun's rule exists.
func (r Rule) text(k *Kernel, f family, list []rules.Rule) (string, error) {
	own := rules.ParseRule(rules.Normal(r.Spec))
	i := slices.IndexFunc(list, func(rule rules.Rule) bool {
		return rule.Comment() == own.Comment() && rule.Target == own.Target
	})
	if i < 0 || slices.ContainsFunc(list, func(rule rules.Rule) bool { return rule.Text == own.Text }) {
		return own.Text, nil
	}
	if ok, err := k.exists(f, r.Table, r.Chain, r.Spec); !ok || err != nil {
		return own.Text, err
	}
	return list[i].Text, nil
}

// repair adds a missing rule, and moves a rule to the front if others have put rules first. The rules of others stay.
func (r Rule) repair(list []rules.Rule, text string, e *edits) {
	copies := 0
	for _, rule := range list {
		if rule.Text == text {
			copies++
		}
	}
	e.found = e.found || copies > 0
	switch {
	case copies == 0:
		e.note("chain %s/%s lacks the rule: %s", r.Table, r.Chain, r.Spec)
	case copies > 1:
		e.note("chain %s/%s has %d times the rule: %s", r.Table, r.Chain, copies, r.Spec)
	case r.First && rules.Behind(list, text):
		e.note("chain %s/%s"+behind+"%s", r.Table, r.Chain, r.Spec)
	default:
		return
	}
	for range copies {
		e.add(r.Table, "-D %s %s", r.Chain, text)
	}
	e.add(r.Table, "%s %s %s", r.verb(), r.Chain, r.Spec)
}

const behind = " has other rules before: "

// Overtaken reports of a line of [Plan.Drift] whether the rule is in place, but behind rules of others.
func Overtaken(drift string) bool { return strings.Contains(drift, behind) }

// place is a chain with rules of a plan.
type place struct{ table, chain string }

func (r Rule) place() place { return place{r.Table, r.Chain} }

// repairStrays drops unwanted rules from the chains with rules of the plan: rules with the plan's mark, and jumps to
// the plan's chains. Such is the jump for an address the box no longer has, or a jump that lets too much through.
// Wanted are the texts of the plan's rules in each chain.
func (r *ruleset) repairStrays(have rules.Tables, wanted map[place][]string, e *edits) {
	for _, rule := range r.rules {
		at := rule.place()
		texts, first := wanted[at]
		if delete(wanted, at); !first {
			continue
		}
		for _, other := range have.Rules(at.table, at.chain) {
			ours := other.Comment() == r.owner || r.owns(at.table, other.Target)
			if ours && !slices.Contains(texts, other.Text) {
				e.note("chain %s/%s has a rule that is out of date: %s", at.table, at.chain, other.Text)
				e.add(at.table, "-D %s %s", at.chain, other.Text)
			}
		}
	}
}

// undo removes the rules with the plan's mark, every jump to the plan's chains, and the chains. undo goes by what is
// there, so nothing need be recorded. A single transaction per table does all; where a transaction fails, each thing
// is tried by itself.
func (rs rulesets) undo(k *Kernel) error {
	all, err := rs.eachRead(k, func(r *ruleset, have rules.Tables) (edits, error) { return r.removal(have), nil })
	if err != nil {
		return err
	}
	order := tableOrder()
	slices.Reverse(order)
	failed := rs.restore(k, all, order)
	for i, r := range rs {
		if failed[string(r.family)] != nil {
			err = errors.Join(err, k.removeSingly(r.family, all[i]))
		}
	}
	return errors.Join(err, k.forget(rs, bothWays))
}

// removal returns the lines that remove the plan's rules and chains.
func (r *ruleset) removal(have rules.Tables) edits {
	var e edits
	for _, t := range have {
		for _, c := range t.Chains {
			for _, rule := range c.Rules {
				if r.removes(t.Name, c.Name, rule) {
					e.add(t.Name, "-D %s %s", c.Name, rule.Text)
				}
			}
		}
	}
	for _, verb := range []string{"-F", "-X"} { // a chain can go when no rule jumps to the chain
		for _, c := range r.chains {
			if have.Has(c.Table, c.Name) {
				e.add(c.Table, "%s %s", verb, c.Name)
			}
		}
	}
	return e
}

// removes reports whether a rule is to be deleted: a jump to a chain of the plan, or a rule with the plan's mark in a
// chain the plan puts rules into. Rules in the plan's own chains are flushed with the chains.
func (r *ruleset) removes(table, chain string, rule rules.Rule) bool {
	if r.owns(table, chain) {
		return false
	}
	here := func(p Rule) bool { return p.place() == place{table, chain} }
	return r.owns(table, rule.Target) || rule.Comment() == r.owner && slices.ContainsFunc(r.rules, here)
}

// owns reports whether a chain is the plan's own.
func (r *ruleset) owns(table, chain string) bool {
	return slices.ContainsFunc(r.chains, func(c Chain) bool { return c.Table == table && c.Name == chain })
}

// inUse reports whether other plans have rules in the shared chains of this plan.
func (r *ruleset) inUse(have rules.Tables) bool {
	return slices.ContainsFunc(r.chains, func(c Chain) bool { return c.Shared && len(have.Rules(c.Table, c.Name)) > 0 })
}

// removeSingly does the edits of removal one by one, past errors.
func (k *Kernel) removeSingly(f family, e edits) error {
	k.Reread()
	ipt, err := k.iptables(f)
	if err != nil {
		return err
	}
	var errs []error
	for _, table := range slices.Backward(tableOrder()) {
		for _, line := range e.lines[table] {
			verb, rest, _ := strings.Cut(line, " ")
			chain, spec, _ := strings.Cut(rest, " ")
			var err error
			switch verb {
			case "-D":
				err = ipt.Delete(table, chain, rules.Split(spec)...)
			case "-F":
				err = ipt.ClearChain(table, chain)
			case "-X":
				err = ipt.DeleteChain(table, chain)
			}
			errs = append(errs, ignoreNotExist(err))
		}
	}
	return errors.Join(errs...)
}
