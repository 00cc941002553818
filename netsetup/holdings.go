package netsetup

import (
	"fmt"
	"strings"
)

// Holding is one thing that boxrun holds on the host.
type Holding struct {
	Owner string   `json:"owner"` // setup, host, or the name of a bridge or box
	What  string   `json:"what"`
	Rules []string `json:"rules,omitempty"` // those of the kernel that carry the owner's mark, as typed
	Drift []string `json:"drift"`           // in what it is not in place; empty where it is
}

// Holdings gives what the plan holds on the host, in the order of work. It never writes.
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
		if _, ok := s.(*ruleset); ok {
			have, err := k.rules()
			if err != nil {
				return all, err
			}
			h.Rules = rulesOf(have, "iptables", p.Owner)
		}
		all = append(all, h)
	}
	return all, nil
}

// idle tells of a step that has nothing to do on this host: firewalld does not run, or iptables has no modules.
func idle(k *Kernel, s step) (bool, error) {
	switch s := s.(type) {
	case *File:
		drift, err := s.check(k)
		return s.Text == "" && len(drift) == 0, err
	case *Zone:
		f, err := openFirewalld()
		f.close()
		return f == nil, err
	case *Modules:
		legacy, err := k.legacy()
		return s.Legacy && !legacy, err
	}
	return false, nil
}

func ownerOf(mark string) string { return strings.TrimPrefix(mark, markPrefix) }

// rulesOf gives the chains and rules of an owner as a person would type them with tool.
func rulesOf(have tables, tool, owner string) []string {
	var rules []string
	for _, t := range tracesAmong(have, tool) {
		if t.Owner == ownerOf(owner) {
			rules = append(rules, t.String())
		}
	}
	return rules
}

// PendingCommands gives what a person would type to put in place what is not.
func (p Plan) PendingCommands(k *Kernel) ([]string, error) {
	var lines []string
	for _, s := range p.steps() {
		drift, err := s.check(k)
		if err != nil {
			return lines, fmt.Errorf("checking %v: %w", s, err)
		}
		if len(drift) > 0 {
			up, _ := s.commands()
			lines = append(lines, up...)
		}
	}
	return lines, nil
}
