package netsetup

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
)

// Plan is what boxrun does to the host's network, as data: printed (Commands), stored (its JSON is the undo log),
// applied, checked and undone from the same value. The order of the fields is the order of work; undo runs backwards.
//
// Each lifetime has a plan: [Host] serves all bridges, [Host6] those with IPv6, [Bridge] all boxes of a bridge, [Ports] a
// single box.
type Plan struct {
	Owner   string    `json:"owner"` // marks the plan's rules: boxrun:host, boxrun:BRIDGE or boxrun:NAME
	Files   []File    `json:"files,omitempty"`
	Modules []Modules `json:"modules,omitempty"`

	Advertisements *Advertisements `json:"advertisements,omitempty"` // before forwarding among the sysctls

	Sysctls     []Sysctl       `json:"sysctls,omitempty"`
	ReversePath *ReversePath   `json:"reverse_path,omitempty"`
	Firewalld   *PermanentZone `json:"firewalld,omitempty"`
	Managers    []Unmanaged    `json:"managers,omitempty"` // before the device that managers would take
	Device      *Device        `json:"device,omitempty"`
	Forwarding  *Sysctl        `json:"forwarding,omitempty"` // of the device
	Settings6   []Sysctl       `json:"settings6,omitempty"`  // of the device
	Address6    *Address       `json:"address6,omitempty"`   // of the device
	Zone        *Zone          `json:"zone,omitempty"`
	Conflist    *Conflist      `json:"conflist,omitempty"`
	Reserved    []Reservation  `json:"reserved,omitempty"`
	Features    *Features      `json:"features,omitempty"`
	Outward     *Features      `json:"outward,omitempty"` // of the device inside a box
	Plug        *Plug          `json:"hairpin,omitempty"`
	Answers     *Answers       `json:"answers,omitempty"`
	Answers6    *Answers       `json:"answers6,omitempty"`
	Chains      []Chain        `json:"chains,omitempty"` // these three are a single step, a transaction of iptables
	Rules       []Rule         `json:"rules,omitempty"`
	Flows       *Flows         `json:"flows,omitempty"`
	Chains6     []Chain        `json:"chains6,omitempty"` // the same for IPv6
	Rules6      []Rule         `json:"rules6,omitempty"`
	Flows6      *Flows         `json:"flows6,omitempty"`
	Localnet    *Sysctl        `json:"localnet,omitempty"` // after the guard among the rules, and undone before the guard
	Pending     bool           `json:"pending,omitempty"`  // the rules have never been in place yet
	Stays       []string       `json:"stays,omitempty"`    // what Settle decided to leave behind, a line each
}

// step is a single thing a plan does to the host.
type step interface {
	// String names the thing, for errors.
	String() string
	// commands are what a person would type to set the thing up on a clean host, and to take the thing back.
	commands() (up, down []string)
	// record notes what undo must restore, and changes nothing. It refuses what ensure could not set right.
	record(k *Kernel) error
	// check returns a line for each way in which the thing is out of place, and never writes. A thing without even its
	// device is out of place, and no error.
	check(k *Kernel) ([]string, error)
	// ensure puts the thing in place, whatever part of the thing is there.
	ensure(k *Kernel) error
	// undo restores what record noted. For a thing that is gone, undo returns nil.
	undo(k *Kernel) error
}

// steps returns the plan's steps in the order of work. The steps point into p, so record writes there.
func (p *Plan) steps() []step {
	var ruleset []step
	if all := p.rulesets(); len(all) > 0 {
		ruleset = []step{all}
	}
	return slices.Concat(p.ground(), p.answers(), ruleset, p.above())
}

// ground returns the steps before all rules: they start no program but modprobe.
func (p *Plan) ground() []step {
	return slices.Concat(stepOfEach(p.Files), stepOfEach(p.Modules), stepIf(p.Advertisements), stepOfEach(p.Sysctls),
		stepIf(p.ReversePath), stepIf(p.Firewalld), stepOfEach(p.Managers), stepIf(p.Device), stepIf(p.Forwarding),
		stepOfEach(p.Settings6), stepIf(p.Address6), stepIf(p.Zone), stepIf(p.Conflist), stepOfEach(p.Reserved),
		stepIf(p.Features), stepIf(p.Outward), stepIf(p.Plug))
}

// answers returns the steps of the rules for answers.
func (p *Plan) answers() []step { return slices.Concat(stepIf(p.Answers), stepIf(p.Answers6)) }

// above returns the steps after the rules.
func (p *Plan) above() []step { return stepIf(p.Localnet) }

// stepOfEach returns pointers to the elements of a list as steps.
func stepOfEach[T any, P interface {
	*T
	step
}](list []T) []step {
	var steps []step
	for i := range list {
		steps = append(steps, P(&list[i]))
	}
	return steps
}

// stepIf returns the step where the plan has it, and nothing for nil: a nil pointer in an interface would not compare
// as nil.
func stepIf[T any, P interface {
	*T
	step
}](s P) []step {
	if s == nil {
		return nil
	}
	return []step{s}
}

// Commands returns what a person would type into bash to have the same on a clean host. An entry may span lines.
func (p Plan) Commands() []string {
	var lines []string
	for _, s := range p.steps() {
		up, _ := s.commands()
		lines = append(lines, up...)
	}
	return lines
}

// UndoCommands returns what a person would type to take the plan back. If p was recorded, the commands restore what
// only Record knows: the earlier values of sysctls and features.
func (p Plan) UndoCommands() []string {
	var lines []string
	for _, s := range slices.Backward(p.steps()) {
		_, down := s.commands()
		lines = append(lines, down...)
	}
	return lines
}

// Record notes in p what Undo must restore, and changes nothing on the host. Call Record once, on a plan fresh from
// its builder, before anything is touched, and store p: a plan recorded when already in place would take boxrun's own
// work for the host's. Record refuses a plan that could not be set up, such as a bridge whose name is in use with
// another address.
func (p *Plan) Record(k *Kernel) error {
	for _, s := range p.steps() {
		if err := s.record(k); err != nil {
			return fmt.Errorf("recording %v: %w", s, err)
		}
	}
	return nil
}

// RecordLost is Record for a plan in place whose log is lost. The settings that nobody but boxrun uses count as not set
// before; what else the plan has found in place stays.
func (p *Plan) RecordLost(k *Kernel) error {
	err := p.Record(k)
	for i := range p.Sysctls {
		if s := &p.Sysctls[i]; s.Own && s.Before == nil {
			s.Before = []Setting{{s.Key, "0"}}
		}
	}
	return err
}

// Renewed returns the plan, as stored, with the chains, rules and ways of answers that fresh asks for, and with what of
// IPv6 the plan lacks. Renewed reports whether the stored plan had others: another boxrun made the plan, the host's routing
// has changed, the host had no IPv6, or a box asks for more. What was recorded stays.
func (p Plan) Renewed(k *Kernel, fresh Plan) (Plan, bool, error) {
	stored := p
	p.Chains, p.Rules, p.Answers = fresh.Chains, fresh.Rules, fresh.Answers
	p.Chains6, p.Rules6, p.Answers6 = fresh.Chains6, fresh.Rules6, fresh.Answers6
	if f := fresh.Features; p.Features == nil && f != nil { // for the first box on the bridge with network.offload off
		if err := f.record(k); err != nil {
			return p, false, fmt.Errorf("recording %v: %w", f, err)
		}
		p.Features = f
	}
	for _, s := range append(p.take6(fresh), p.answers()...) {
		if err := s.record(k); err != nil {
			return p, false, fmt.Errorf("recording %v: %w", s, err)
		}
	}
	same, err := p.storedAs(stored)
	return p, !same, err
}

// storedAs reports whether two plans are the same when stored, where an empty list is none.
func (p Plan) storedAs(other Plan) (bool, error) {
	if reflect.DeepEqual(p, other) { // as nearly always, and sooner known
		return true, nil
	}
	text, err := json.Marshal(p)
	otherText, otherErr := json.Marshal(other)
	return bytes.Equal(text, otherText), cmp.Or(err, otherErr)
}

// take6 takes from fresh what p lacks of IPv6 on the device, in the order of fresh, and returns the steps taken.
func (p *Plan) take6(fresh Plan) []step {
	var taken []step
	stored := p.Settings6
	p.Settings6 = slices.Clone(fresh.Settings6)
	for i := range p.Settings6 {
		s := &p.Settings6[i]
		if at := slices.IndexFunc(stored, func(had Sysctl) bool { return had.Key == s.Key }); at >= 0 {
			*s = stored[at]
		} else {
			taken = append(taken, s)
		}
	}
	if len(taken) == 0 {
		p.Settings6 = stored
	}
	if p.Address6 == nil && fresh.Address6 != nil {
		p.Address6 = fresh.Address6
		taken = append(taken, p.Address6)
	}
	return taken
}

// Drift returns a line for each thing out of place, none where all is in place. It never writes.
func (p Plan) Drift(k *Kernel) ([]string, error) {
	var drift []string
	err := eachDrifted(k, "checking", p.steps(), func(_ step, lines []string) error {
		drift = append(drift, lines...)
		return nil
	})
	return drift, err
}

// eachDrifted calls do with each step out of place and the lines from check, and stops at the first error. The error
// begins with what is being done to the step: "checking".
func eachDrifted(k *Kernel, doing string, steps []step, do func(s step, drift []string) error) error {
	for _, s := range steps {
		drift, err := s.check(k)
		if err == nil && len(drift) > 0 {
			err = do(s, drift)
			k.forgetDevices()
		}
		if err != nil {
			return fmt.Errorf("%s %v: %w", doing, s, err)
		}
	}
	return nil
}

// Apply puts in place what is out of place, and so repairs drift too. Where nothing has drifted, Apply writes nothing
// and starts only processes that read. Apply stops at the first error; Undo then takes back what was done.
func (p Plan) Apply(k *Kernel) error {
	_, err := put(k, p.steps())
	return err
}

// put puts in place what of steps is out of place, and returns what was. put stops at the first error.
func put(k *Kernel, steps []step) (drift []string, err error) {
	err = eachDrifted(k, "setting up", steps, func(s step, lines []string) error {
		drift = append(drift, lines...)
		return s.ensure(k)
	})
	return drift, err
}

// Undo takes the plan back, last step first, past errors, and returns the errors joined. What is not there is no
// error, so Undo is safe after an Apply that stopped anywhere. A plan whose shared chains still hold others' rules is
// left alone, with ErrInUse: the plan of [Host] goes with the last bridge, whoever undoes the bridge.
func (p Plan) Undo(k *Kernel) error {
	k.Reread()
	// Where the rules cannot be read, the step of the rules says why.
	all := p.rulesets()
	if k.readRules(all) == nil && slices.ContainsFunc(all, func(r *ruleset) bool { return r.inUse(k.kept[r.family].Tables()) }) {
		return ErrInUse
	}
	return undoSteps(k, p.steps())
}

// undoSteps undoes steps, last first, past errors.
func undoSteps(k *Kernel, steps []step) error {
	var errs []error
	for _, s := range slices.Backward(steps) {
		if err := s.undo(k); err != nil {
			errs = append(errs, fmt.Errorf("undoing %v: %w", s, err))
		}
	}
	return errors.Join(errs...)
}

// ErrInUse is in the chain of the error of Undo where others have rules in the plan's shared chains.
var ErrInUse = errors.New("others have rules in the plan's chains")

// Settle returns a line for each setting of the host that differs from before. Call Settle when all is up: from here
// on others may rely on what the host forwards, so the settings are no longer restored. Settle keeps the lines in
// p.Stays for the day of the Undo.
func (p *Plan) Settle() []string {
	for _, s := range p.ground() {
		if s, ok := s.(settler); ok {
			p.Stays = append(p.Stays, s.settle()...)
		}
	}
	return p.Stays
}

// settler is a step with settings of the host that others may rely on.
type settler interface {
	// settle returns a line for each setting that differs from before, and forgets how the settings were.
	settle() []string
}

// stays returns a line for each setting that stays at a value.
func stays(before []Setting, value string) []string {
	var lines []string
	for _, b := range before {
		lines = append(lines, fmt.Sprintf("sysctl %s stays %s (it was %s)", b.Key, value, b.Value))
	}
	return lines
}
