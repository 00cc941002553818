package netsetup

import (
	"errors"
	"fmt"
	"slices"
)

// Plan is what boxrun does to the host's network, as data: it is printed (Commands), stored (its JSON is the undo log),
// applied, checked and undone from this one value. The order of the fields is the order of work; undo runs backwards.
//
// There are three lifetimes and so three plans: [Host] serves all bridges, [Bridge] all boxes of one bridge, [Ports]
// one box.
type Plan struct {
	Owner       string         `json:"owner"` // marks the plan's rules: boxrun:host, boxrun:BRIDGE or boxrun:NAME
	Files       []File         `json:"files,omitempty"`
	Modules     []Modules      `json:"modules,omitempty"`
	Sysctls     []Sysctl       `json:"sysctls,omitempty"`
	ReversePath *ReversePath   `json:"reverse_path,omitempty"`
	Firewalld   *PermanentZone `json:"firewalld,omitempty"`
	Device      *Device        `json:"device,omitempty"`
	Zone        *Zone          `json:"zone,omitempty"`
	Conflist    *Conflist      `json:"conflist,omitempty"`
	Features    *Features      `json:"features,omitempty"`
	Hairpin     *Hairpin       `json:"hairpin,omitempty"`
	Chains      []Chain        `json:"chains,omitempty"` // these three are one step, one transaction of iptables
	Rules       []Rule         `json:"rules,omitempty"`
	Flows       *Flows         `json:"flows,omitempty"`
	Localnet    *Sysctl        `json:"localnet,omitempty"` // after the guard among the rules, and undone before it
	Stays       []string       `json:"stays,omitempty"`    // what Settle decided to leave behind, a line each
}

// step is one thing a plan does to the host.
type step interface {
	// String names the thing, for errors.
	String() string
	// commands are what a person would type to set the thing up on a clean host, and to take it back.
	commands() (up, down []string)
	// record notes what undo must restore. It refuses what ensure could not set right, and changes nothing.
	record(k *Kernel) error
	// check gives a line for each way in which the thing is not in place, and never writes. A thing of which not
	// even the device exists is out of place, and no error.
	check(k *Kernel) ([]string, error)
	// ensure puts the thing in place, whatever part of it is there.
	ensure(k *Kernel) error
	// undo restores what record noted. What is not there any more is nil.
	undo(k *Kernel) error
}

// steps gives the plan's steps in the order of work. They point into p, so that record writes there.
func (p *Plan) steps() []step {
	var steps []step
	for i := range p.Files {
		steps = append(steps, &p.Files[i])
	}
	for i := range p.Modules {
		steps = append(steps, &p.Modules[i])
	}
	for i := range p.Sysctls {
		steps = append(steps, &p.Sysctls[i])
	}
	steps = appendStep(steps, p.ReversePath)
	steps = appendStep(steps, p.Firewalld)
	steps = appendStep(steps, p.Device)
	steps = appendStep(steps, p.Zone)
	steps = appendStep(steps, p.Conflist)
	steps = appendStep(steps, p.Features)
	steps = appendStep(steps, p.Hairpin)
	if len(p.Chains)+len(p.Rules) > 0 {
		steps = append(steps, p.ruleset())
	}
	return appendStep(steps, p.Localnet)
}

// appendStep appends s where the plan has it. S is a pointer type; a nil one in an interface would not compare as nil.
func appendStep[S interface {
	comparable
	step
}](steps []step, s S) []step {
	var none S
	if s == none {
		return steps
	}
	return append(steps, s)
}

// Commands gives what a person would type into bash to have the same on a clean host. An entry may span lines.
func (p Plan) Commands() []string {
	var lines []string
	for _, s := range p.steps() {
		up, _ := s.commands()
		lines = append(lines, up...)
	}
	return lines
}

// UndoCommands gives what a person would type to take the plan back. What only Record knows (the values that sysctls
// and features had) is among them if p was recorded.
func (p Plan) UndoCommands() []string {
	var lines []string
	for _, s := range slices.Backward(p.steps()) {
		_, down := s.commands()
		lines = append(lines, down...)
	}
	return lines
}

// Record notes in p what Undo must restore. Call it once, on a plan fresh from its builder, before anything is
// touched, and store p: a plan recorded when it is already in place would take boxrun's own work for the host's. It
// changes nothing, and refuses what could not be set up (a bridge of that name with another address).
func (p *Plan) Record(k *Kernel) error {
	for _, s := range p.steps() {
		if err := s.record(k); err != nil {
			return fmt.Errorf("recording %v: %w", s, err)
		}
	}
	return nil
}

// Drift gives one line for each thing out of place; none means all is in place. It never writes.
func (p Plan) Drift(k *Kernel) ([]string, error) {
	var drift []string
	err := p.eachDrifted(k, func(_ step, lines []string) error {
		drift = append(drift, lines...)
		return nil
	})
	return drift, err
}

// eachDrifted calls do with each step that is not in place and the lines that check returns of the step. It stops at the
// first error.
func (p *Plan) eachDrifted(k *Kernel, do func(s step, drift []string) error) error {
	for _, s := range p.steps() {
		drift, err := s.check(k)
		if err == nil && len(drift) > 0 {
			err = do(s, drift)
		}
		if err != nil {
			return fmt.Errorf("checking %v: %w", s, err)
		}
	}
	return nil
}

// Apply puts in place what is not, and so repairs drift too. Where nothing has drifted it writes nothing and starts no
// process that does. It stops at the first error; Undo then takes back what was done.
func (p Plan) Apply(k *Kernel) error {
	for _, s := range p.steps() {
		drift, err := s.check(k)
		if err == nil && len(drift) > 0 {
			err = s.ensure(k)
		}
		if err != nil {
			return fmt.Errorf("setting up %v: %w", s, err)
		}
	}
	return nil
}

// Undo takes the plan back, last step first, past errors, and gives them joined. What is not there is no error, so it
// is safe after an Apply that stopped anywhere. A plan whose shared chains still hold others' rules is left as it is,
// with ErrInUse: that of [Host] goes with the last bridge, whoever undoes it.
func (p Plan) Undo(k *Kernel) error {
	if p.inUse(k) {
		return ErrInUse
	}
	var errs []error
	for _, s := range slices.Backward(p.steps()) {
		if err := s.undo(k); err != nil {
			errs = append(errs, fmt.Errorf("undoing %v: %w", s, err))
		}
	}
	return errors.Join(errs...)
}

// ErrInUse says that others rely on what a plan did.
var ErrInUse = errors.New("others have rules in the plan's chains")

// inUse tells whether other plans rely on this one. Where the rules cannot be read, undo goes on: its own step says why.
func (p Plan) inUse(k *Kernel) bool {
	k.Reread()
	have, err := k.rules()
	return err == nil && p.ruleset().inUse(have)
}

// Settle is called when all is up: from here on others may rely on what the host forwards, so those settings are no
// longer restored. It gives a line for each that differs from before, and keeps the lines in p.Stays for the day of
// the Undo.
func (p *Plan) Settle() []string {
	for i := range p.Modules {
		p.Stays = append(p.Stays, p.Modules[i].settle()...)
	}
	for i := range p.Sysctls {
		p.Stays = append(p.Stays, p.Sysctls[i].settle()...)
	}
	if p.ReversePath != nil {
		p.Stays = append(p.Stays, p.ReversePath.settle()...)
	}
	return p.Stays
}
