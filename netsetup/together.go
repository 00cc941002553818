package netsetup

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"boxrun/netsetup/rules"
)

// ApplyAll puts plans in place as Apply does, and repairs drift too: first everything but the rules, plan by plan, then
// the rules of all in a single transaction for each table. ApplyAll returns what was out of place of each plan. At the
// first error ApplyAll stops.
func ApplyAll(k *Kernel, plans ...Plan) (drift [][]string, err error) {
	drift = make([][]string, len(plans))
	put := func(steps func(*Plan) []step) error {
		for i := range plans {
			lines, err := put(k, steps(&plans[i]))
			if drift[i] = append(drift[i], lines...); err != nil {
				return err
			}
		}
		return nil
	}
	for _, steps := range []func(*Plan) []step{(*Plan).ground, (*Plan).answers} {
		if err := put(steps); err != nil {
			return drift, err
		}
	}
	if err := ensureRules(k, plans, drift); err != nil {
		return drift, err
	}
	return drift, put((*Plan).above)
}

// Lay puts in place what needs no rules of iptables, and repairs drift too. Lay returns what was out of place.
func Lay(k *Kernel, p Plan) (drift []string, err error) {
	k.awaitFirewalld()
	return put(k, p.ground())
}

// OnlyRules returns the plan without all that is no rule: for a box whose veth is yet to come.
func (p Plan) OnlyRules() Plan {
	return Plan{
		Owner: p.Owner, Chains: p.Chains, Rules: p.Rules, Flows: p.Flows,
		Chains6: p.Chains6, Rules6: p.Rules6, Flows6: p.Flows6,
	}
}

// Ahead returns what can be undone while Apptainer still takes the network of the last box down: the rules, with the
// setting that they guard, and a bridge of boxrun's, on which the box's veth may still be.
func (p Plan) Ahead(veth string) Plan {
	ahead := p.OnlyRules().WithoutFlows()
	ahead.Localnet = p.Localnet
	if p.Device != nil && p.Device.Found == nil {
		device := *p.Device
		device.leaving = veth
		ahead.Device, ahead.Zone = &device, p.Zone
	}
	return ahead
}

// WithoutFlows returns the plan without connections to forget.
func (p Plan) WithoutFlows() Plan {
	p.Flows, p.Flows6 = nil, nil
	return p
}

// ReadAhead reads the rules of plans, for a later UndoAll to find them read. An error comes again from UndoAll.
func ReadAhead(k *Kernel, plans ...Plan) { _ = k.readRules(rulesetsOf(plans)) }

// ensureRules puts the rules of plans in place, and adds what was out of place to the drift of each plan.
func ensureRules(k *Kernel, plans []Plan, drift [][]string) error {
	if err := k.readRules(rulesetsOf(plans)); err != nil {
		return fmt.Errorf("setting up the rules: %w", err)
	}
	var drifted rulesets
	inputs := map[string][]string{}
	for _, f := range []family{v4, v6} {
		lines, of, err := repairFamily(k, f, plans, drift)
		if err != nil {
			return err
		}
		if len(of) > 0 {
			inputs[string(f)], drifted = lines, append(drifted, of...)
		}
	}
	if err := joined(k.restoreAll(inputs)); err != nil {
		return fmt.Errorf("setting up the rules of %s: %w", strings.Join(drifted.owners(), ", "), err)
	}
	return k.forget(drifted, toBox)
}

// owners returns the owners of rulesets, each once.
func (rs rulesets) owners() []string {
	var names []string
	for _, r := range rs {
		if !slices.Contains(names, r.owner) {
			names = append(names, r.owner)
		}
	}
	return names
}

// rulesetsOf returns the rulesets of all plans, one of each family.
func rulesetsOf(plans []Plan) rulesets {
	var all rulesets
	for _, p := range plans {
		for _, r := range p.rulesets() {
			if !slices.ContainsFunc(all, func(have *ruleset) bool { return have.family == r.family }) {
				all = append(all, r)
			}
		}
	}
	return all
}

// repairFamily returns the lines that put the rules of a family in place, and the rulesets that were not, and adds what was
// out of place to the drift of each plan.
func repairFamily(k *Kernel, f family, plans []Plan, drift [][]string) (lines []string, drifted rulesets, err error) {
	have := k.kept[f].Tables().Clone()
	var all edits
	for i := range plans {
		for _, r := range plans[i].rulesets() {
			if r.family != f {
				continue
			}
			e, err := r.repair(k, have)
			if err != nil {
				return nil, nil, fmt.Errorf("setting up the rules of %s: %w", r.owner, err)
			}
			if len(e.drift) > 0 {
				drifted = append(drifted, r)
				drift[i] = append(drift[i], e.drift...)
			}
			all.include(e, f, &have)
		}
	}
	return all.input(tableOrder()), drifted, nil
}

// include adds the lines of e, and does them to the tables.
func (e *edits) include(other edits, f family, have *rules.Tables) {
	for _, table := range tableOrder() {
		for _, line := range other.lines[table] {
			e.add(table, "%s", line)
		}
		have.Edit(string(f), table, other.lines[table])
	}
}

// chainsLast puts what removes chains behind all else: iptables finds a chain in use whose last jump goes in the same
// transaction, where a later line flushes the chain of the jump.
func (e *edits) chainsLast() {
	for _, lines := range e.lines {
		slices.SortStableFunc(lines, func(a, b string) int {
			return cmp.Compare(strings.Index("-D-F-X", a[:2]), strings.Index("-D-F-X", b[:2]))
		})
	}
}

// UndoAll takes plans back as Undo does, in the order given, and their rules in a single transaction for each table.
// UndoAll returns an error for each plan.
func UndoAll(k *Kernel, plans ...Plan) []error {
	errs := make([]error, len(plans))
	k.Reread()
	if k.readRules(rulesetsOf(plans)) != nil { // the step of the rules says why, beside all other steps
		for i := range plans {
			errs[i] = plans[i].Undo(k)
		}
		return errs
	}
	removal := removalOf(k, plans, errs)
	each := func(undo func(p *Plan) error) {
		for i := range plans {
			if !errors.Is(errs[i], ErrInUse) {
				errs[i] = errors.Join(errs[i], undo(&plans[i]))
			}
		}
	}
	each(func(p *Plan) error { return undoSteps(k, p.above()) })
	k.remove(removal, each)
	each(func(p *Plan) error { return undoSteps(k, append(p.ground(), p.answers()...)) })
	return errs
}

// removalOf returns the lines that remove the rules of plans, by family. A plan whose chains others still use then gets
// ErrInUse, and none of its rules is among the lines.
func removalOf(k *Kernel, plans []Plan, errs []error) map[family]*edits {
	all, have := map[family]*edits{v4: {}, v6: {}}, map[family]*rules.Tables{}
	for f, kept := range k.kept {
		tables := kept.Tables().Clone()
		have[f] = &tables
	}
	for i := range plans {
		rs := plans[i].rulesets()
		if slices.ContainsFunc(rs, func(r *ruleset) bool { return r.inUse(*have[r.family]) }) {
			errs[i] = ErrInUse
			continue
		}
		for _, r := range rs {
			all[r.family].include(r.removal(*have[r.family]), r.family, have[r.family])
		}
	}
	return all
}

// remove does the lines of a removal at once; where that fails, plan by plan.
func (k *Kernel) remove(removal map[family]*edits, each func(undo func(p *Plan) error)) {
	order := tableOrder()
	slices.Reverse(order)
	inputs := map[string][]string{}
	for f, e := range removal {
		if len(e.lines) > 0 {
			e.chainsLast()
			inputs[string(f)] = e.input(order)
		}
	}
	if joined(k.restoreAll(inputs)) != nil {
		each(func(p *Plan) error { return p.rulesets().undo(k) })
		return
	}
	var withdrawn rulesets
	each(func(p *Plan) error {
		withdrawn = append(withdrawn, p.rulesets()...)
		return nil
	})
	if err := k.forget(withdrawn, bothWays); err != nil {
		each(func(*Plan) error { return err })
	}
}
