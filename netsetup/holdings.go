package netsetup

import (
	"fmt"
	"strings"

	"boxrun/netsetup/rules"
)

// Holding is a thing of boxrun's on the host.
type Holding struct {
	Owner string   `json:"owner"` // setup, host, or the name of a bridge or box
	What  string   `json:"what"`
	Rules []string `json:"rules,omitempty"` // the rules of the kernel with the owner's mark, as typed
	Drift []string `json:"drift"`           // in what ways the thing is out of place
}

// Holdings returns what the plan holds on the host, in the order of work. It never writes.
func (p Plan) Holdings(k *Kernel) ([]Holding, error) {
	var all []Holding
	for _, s := range p.steps() {
		idle, err := idle(k, s)
		if err != nil {
			return all, err
		}
		if idle {
			continue
		}
		drift, err := s.check(k)
		if err != nil {
			return all, fmt.Errorf("checking %v: %w", s, err)
		}
		h := Holding{Owner: ownerOf(p.Owner), What: s.String(), Drift: append([]string{}, drift...)}
		if rs, ok := s.(rulesets); ok {
			if h.Rules, err = k.rulesOf(h.Owner, rs); err != nil {
				return all, err
			}
		}
		all = append(all, h)
	}
	return all, nil
}

// rulesOf returns the rules of an owner in the families of some rulesets.
func (k *Kernel) rulesOf(owner string, in rulesets) ([]string, error) {
	var found []string
	for _, r := range in {
		have, err := k.rules(r.family)
		if err != nil {
			return nil, err
		}
		for _, t := range tracesAmong(have) {
			if t.Owner == owner {
				found = append(found, t.String())
			}
		}
	}
	return found, nil
}

// idle reports whether a step has nothing to do on this host, as firewalld does not run, or iptables has no modules.
func idle(k *Kernel, s step) (bool, error) {
	switch s := s.(type) {
	case *File:
		drift, err := s.check(k)
		return s.Text == "" && len(drift) == 0, err
	case *Answers:
		want, _, err := s.look(k)
		if err != nil {
			return false, err
		}
		drift, err := s.check(k)
		return len(want.Ways)+len(want.Rules)+len(drift) == 0, err
	case *Zone:
		f, err := k.bus.Firewalld()
		return f == nil, err
	case *Modules:
		legacy, err := legacy(v4)
		return s.Legacy && !legacy, err
	}
	return false, nil
}

func ownerOf(mark string) string { return strings.TrimPrefix(mark, rules.MarkPrefix) }
