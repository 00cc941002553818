package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"boxrun/launcher/box"
	"boxrun/launcher/conf"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/launcher/lan"
	"boxrun/launcher/list"
	"boxrun/netsetup"
	"boxrun/netsetup/outsider"
	"boxrun/profiles"
)

// HostFile is the undo log of the host's part in the network shared by boxes: a netsetup.Plan as applied.
func HostFile(s *box.Store) string { return s.Path("host.json") }

// Host6File is the undo log of the host's part for IPv6.
func Host6File(s *box.Store) string { return s.Path("host6.json") }

// BridgeFile is the undo log of a bridge.
func BridgeFile(s *box.Store, bridge string) string { return s.Path("bridges", bridge+".json") }

// ReadPlan reads an undo log. The error is os.ErrNotExist for a network not raised, and ErrUnreadable for a broken log.
func ReadPlan(file string) (plan netsetup.Plan, err error) {
	err = box.ReadJSON(file, &plan)
	if err == nil && plan.Owner == "" {
		err = &fault.Problem{Kind: box.ErrUnreadable, Text: "state file " + file + " holds no plan"}
	}
	if errors.Is(err, box.ErrUnreadable) {
		err = &fault.Problem{Kind: box.ErrUnreadable, Text: err.Error(), Hint: "\"boxrun repair\" makes it anew while a box is up"}
	}
	return plan, err
}

// brokenLog is the line for a log made anew, or done without.
func brokenLog(err error) string {
	return err.Error() + ": how the host was before boxes is not known any more"
}

// A Shared is a plan that boxes have in common, and the path of its undo log.
type Shared struct {
	File string
	Plan netsetup.Plan
}

// SharedPlans returns the plans behind the boxes on a bridge, in the order of applying: the host's, then the bridge's.
func SharedPlans(s *box.Store, n netsetup.Network) []Shared {
	plans := []Shared{{HostFile(s), netsetup.Host()}}
	if n.Subnet6.IsValid() {
		plans = append(plans, Shared{Host6File(s), netsetup.Host6()})
	}
	return append(plans, Shared{BridgeFile(s, n.Bridge), netsetup.Bridge(n)})
}

// Lay puts in place what Apptainer needs of the host's and the bridge's network: everything but the rules, which Raise
// puts in place while Apptainer makes the box. Lay returns what was out of place. The caller holds the network's lock.
func Lay(s *box.Store, k *netsetup.Kernel, n netsetup.Network) (repaired []string, err error) {
	k.Reread()
	for _, shared := range SharedPlans(s, n) {
		plan, told, err := shared.log(k)
		if err != nil {
			return nil, err
		}
		repaired = append(repaired, told...)
		drift, err := netsetup.Lay(k, plan)
		if err != nil {
			return nil, err
		}
		if !plan.Pending {
			repaired = append(repaired, drift...)
		}
	}
	return repaired, nil
}

// Raise puts the host's and the bridge's network in place, or repairs them, and with them the rules of boxes. Raise
// returns what was out of place, without what was never in place before. The caller holds the network's lock.
func Raise(s *box.Store, k *netsetup.Kernel, n netsetup.Network, boxes ...netsetup.Plan) (repaired []string, err error) {
	k.Reread() // who had the lock before may have written since the ports were checked
	shared := SharedPlans(s, n)
	var plans []netsetup.Plan
	for i := range shared {
		plan, told, err := shared[i].log(k)
		if err != nil {
			return nil, err
		}
		shared[i].Plan, repaired = plan, append(repaired, told...)
		plans = append(plans, shared[i].Plan)
	}
	drift, err := netsetup.ApplyAll(k, append(plans, boxes...)...)
	if err != nil {
		return nil, err
	}
	for i, plan := range plans {
		if !plan.Pending {
			repaired = append(repaired, drift[i]...)
			continue
		}
		plan.Pending = false
		if err := box.WriteJSON(shared[i].File, plan); err != nil {
			return nil, err
		}
	}
	return repaired, nil
}

// log returns the plan as in its undo log. Without a log, log records the host's state in a new log of a pending plan. A
// broken log is recorded anew, and told of: boxrun knows its bridges and chains by their marks. Otherwise log renews the
// log for what this boxrun and the host's routing ask for.
func (s Shared) log(k *netsetup.Kernel) (plan netsetup.Plan, told []string, err error) {
	plan, err = ReadPlan(s.File)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		plan, err = s.record(k)
		return plan, nil, err
	case errors.Is(err, box.ErrUnreadable):
		told = []string{brokenLog(err)}
		plan, err = s.record(k)
		return plan, told, err
	case err != nil:
		return plan, nil, err
	}
	plan, changed, err := plan.Renewed(k, s.Plan)
	if err == nil && changed {
		err = box.WriteJSON(s.File, plan)
	}
	return plan, nil, err
}

// record records the host's state in a new log of a pending plan.
func (s Shared) record(k *netsetup.Kernel) (netsetup.Plan, error) {
	s.Plan.Pending = true
	if err := s.Plan.Record(k); err != nil {
		return s.Plan, err
	}
	return s.Plan, box.WriteJSON(s.File, s.Plan)
}

// repair repairs a plan applied before, and returns what was out of place. A plan without drift is not applied again.
func repair(k *netsetup.Kernel, p netsetup.Plan) ([]string, error) {
	drift, err := p.Drift(k)
	if err != nil || len(drift) == 0 {
		return nil, err
	}
	return drift, p.Apply(k)
}

// Settle makes permanent what stays on the host after a success: down then leaves these changes and says so. Settle
// also adds the new box's name to the hosts files on its bridge.
func Settle(ctx context.Context, s *box.Store, b *box.Box) error {
	return settleHost(ctx, s, b, func() error {
		_, err := conf.TellNames(s)
		return err
	})
}

// SettleAgain is Settle for a box that was up before, whose name Repair has added: the boxrun of the start may not have
// come to it.
func SettleAgain(ctx context.Context, s *box.Store, b *box.Box) error {
	return settleHost(ctx, s, b)
}

// settleHost makes permanent what stays of the host's plans, under the network's lock, and then does the rest.
func settleHost(ctx context.Context, s *box.Store, b *box.Box, rest ...func() error) error {
	if !b.Bridged() {
		return nil
	}
	unlock, err := s.LockNetwork(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := errors.Join(settle(HostFile(s)), files.IgnoreNotExist(settle(Host6File(s)))); err != nil {
		return err
	}
	return inTurn(rest...)
}

// settle settles the plan with the undo log file.
func settle(file string) error {
	plan, err := ReadPlan(file)
	if err != nil {
		return err
	}
	before := len(plan.Stays)
	if plan.Settle(); len(plan.Stays) == before {
		return nil // as after each start but the first
	}
	return box.WriteJSON(file, plan)
}

// LowerAhead undoes what no box but b needs as soon as the init of b has ended, as far as that can go while Apptainer takes
// down the network of b itself. The rules are read while b stops. Connections are left to Forget: until the network of b is
// gone, packets of b make new ones. Forget undoes all of it again, and tells what fails.
func LowerAhead(ctx context.Context, s *box.Store, k *netsetup.Kernel, b *box.Box) {
	if !b.Bridged() {
		return
	}
	netsetup.ReadAhead(k, b.Ports)
	if b.Init.Wait(ctx) != nil {
		return
	}
	unlock, err := s.LockNetwork(ctx)
	if err != nil {
		return
	}
	defer unlock()
	netsetup.UndoAll(k, append([]netsetup.Plan{b.Ports.OnlyRules().WithoutFlows()}, sharedAhead(s, b)...)...)
}

// sharedAhead returns what of the shared network can be undone ahead, if no box but b needs it. In its log it is pending from
// then on: an up that comes before Forget puts it in place, and mends nothing.
func sharedAhead(s *box.Store, b *box.Box) (plans []netsetup.Plan) {
	others, err := s.Others(b.Name)
	if err != nil || len(s.Lost()) > 0 {
		return nil
	}
	for _, file := range Unneeded(s, others) {
		plan, err := ReadPlan(file)
		if err != nil {
			continue
		}
		if plan.Pending = true; box.WriteJSON(file, plan) == nil {
			plans = append(plans, plan.Ahead(b.Veth))
		}
	}
	return plans
}

// Forget undoes the own plan of the named box, ends the state of the box, and undoes whatever no other box needs: the
// network of its bridge, and with the last bridge the host's. Forget holds the network's lock meanwhile. Thus of two boxes
// going at once, the second sees itself as the last. As long as any box's record is unreadable or lost, the shared network
// stays, since the box may need all of the network.
func Forget(ctx context.Context, s *box.Store, k *netsetup.Kernel, name string, own ...netsetup.Plan) error {
	unlock, err := s.LockNetwork(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	others, err := s.Others(name)
	lost := s.Lost()
	switch {
	case errors.Is(err, box.ErrUnreadable):
		s.Notef("stays: the network that boxes share: %v", err)
		return inTurn(
			func() error { return undoEach(k, own) },
			func() error { return files.RemoveIfThere(s.BoxFile(name)) })
	case err != nil:
		return err
	case len(lost) > 0:
		s.Notef("stays: the network that boxes share: %v", box.LostProblem(lost[0]))
		return inTurn(
			func() error { return undoEach(k, own) },
			func() error { return errors.Join(Sweep(s, k, others), files.RemoveIfThere(s.BoxFile(name))) })
	}
	known := others
	if len(own) > 0 {
		known = append(slices.Clone(others), &box.Box{Name: name}) // lower undoes the rules of the box
	}
	_, wayErr := lan.Sweep(k, others)
	// What others left goes before the chains that they share; what is left of the box, as after a power cut, goes last.
	if err := errors.Join(wayErr, Sweep(s, k, known), lower(s, k, others, own...), Sweep(s, k, others)); err != nil {
		return err
	}
	if err := fault.Each(StateOf(s, name, len(others) == 0), files.Removal.Do); err != nil || len(others) == 0 {
		return err
	}
	_, err = conf.TellNames(s)
	return err
}

// inTurn does one thing after the other, until one fails.
func inTurn(acts ...func() error) error {
	for _, do := range acts {
		if err := do(); err != nil {
			return err
		}
	}
	return nil
}

func undoEach(k *netsetup.Kernel, plans []netsetup.Plan) error {
	return fault.Each(plans, func(p netsetup.Plan) error { return p.Undo(k) })
}

// Recall records anew the logs that bridges of boxrun's lack, as after the loss of all records: the last down goes by them.
func Recall(ctx context.Context, s *box.Store, k *netsetup.Kernel) error {
	unlock, err := s.LockNetwork(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	traces, err := netsetup.FindTraces(k)
	if err != nil {
		return err
	}
	logs := []string{HostFile(s)}
	if traces.OfIPv6() {
		logs = append(logs, Host6File(s))
	}
	for _, bridge := range traces.Bridges {
		logs = append(logs, BridgeFile(s, bridge))
	}
	return fault.Each(logs, func(file string) error {
		if files.Exists(file) {
			return nil
		}
		plan, err := planOf(s, k, file)
		if err != nil {
			return err
		}
		return box.WriteJSON(file, plan)
	})
}

// StateOf returns the removal of the state of the named box; with the last box, of all that boxes share in the directory
// of the state. The record of the box is the first to go.
func StateOf(s *box.Store, name string, last bool) []files.Removal {
	gone := []string{s.BoxFile(name)}
	if !last {
		return []files.Removal{{Paths: gone}}
	}
	gone = append(gone, s.Conf())
	for _, pattern := range []string{".*.new", "boxes/.*.new", "bridges/.*.new"} {
		gone = append(gone, s.Records(pattern)...) // left by a boxrun killed while writing a file
	}
	dirs := list.Map([]string{"boxes", "bridges", "cni", "leases"}, func(dir string) string { return s.Path(dir) })
	kept := memory(s).Files() // after the directory of the boxes, without which nobody keeps any more
	return []files.Removal{{Paths: gone}, {Paths: dirs, IfEmpty: true}, {Paths: kept}, {Paths: []string{s.Dir}, IfEmpty: true}}
}

// Clean takes away what no box needs: leases of the dead, rules and bridges of boxes that are gone, networks of killed
// doctors, and names of gone boxes in hosts files. Clean returns a line for each, and goes on past errors.
func Clean(ctx context.Context, s *box.Store, k *netsetup.Kernel) ([]string, error) {
	unlock, err := s.LockNetwork(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	boxes, err := s.Glance()
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, file := range CollectLeases(s) {
		lines = append(lines, "removed the lease of a dead owner: "+file)
	}
	k.Reread()
	swept, sweepErr := netsetup.Sweep(k, append(box.Names(boxes), s.Lost()...))
	for _, name := range swept {
		lines = append(lines, sweptLine(name))
	}
	devices, deviceErr := outsider.Sweep()
	for _, name := range devices {
		lines = append(lines, "removed what a killed doctor left: "+name)
	}
	ways, wayErr := lan.Sweep(k, boxes)
	lowerErr := lower(s, k, boxes)
	names, nameErr := conf.TellNames(s)
	return slices.Concat(lines, ways, names), errors.Join(sweepErr, deviceErr, wayErr, lowerErr, nameErr)
}

// Sweep removes the rules of boxes without a state, and notes each box: a saved firewall may bring such rules back at
// boot. The caller holds the network's lock. A box gets its state under the same lock, before its rules.
func Sweep(s *box.Store, k *netsetup.Kernel, boxes []*box.Box) error {
	swept, err := netsetup.Sweep(k, append(box.Names(boxes), s.Lost()...))
	for _, name := range swept {
		s.Notef("%s", sweptLine(name))
	}
	return err
}

// SweepReserved releases addresses reserved for boxes without a state, and notes each box.
func SweepReserved(s *box.Store, boxes []*box.Box) error {
	swept, err := netsetup.SweepReserved(box.Names(boxes))
	for _, name := range swept {
		s.Notef("released the address of box %s, which is not there", name)
	}
	return err
}

// sweptLine is the message for a name returned by netsetup.Sweep.
func sweptLine(name string) string { return "removed the rules of " + name + ", which is not there" }

// Unneeded returns the undo logs that none of boxes needs, in the order of undoing: of bridges, the host's for IPv6 if no
// box has IPv6, and the host's if no box is on a bridge.
func Unneeded(s *box.Store, boxes []*box.Box) []string {
	needed := func(file string) bool {
		return slices.ContainsFunc(boxes, func(b *box.Box) bool { return b.Bridged() && BridgeFile(s, b.Profile.Network.Bridge) == file })
	}
	unneeded := slices.DeleteFunc(s.Records("bridges/*.json"), needed)
	if !slices.ContainsFunc(boxes, func(b *box.Box) bool { return b.Bridged() && b.Profile.Network.Subnet6 != "" }) {
		unneeded = append(unneeded, Host6File(s))
	}
	if slices.ContainsFunc(boxes, (*box.Box).Bridged) {
		return unneeded
	}
	return append(unneeded, HostFile(s))
}

// lower undoes the plan of a box, and the shared network that none of boxes needs.
func lower(s *box.Store, k *netsetup.Kernel, boxes []*box.Box, own ...netsetup.Plan) error {
	return undo(s, k, own, Unneeded(s, boxes))
}

// undo undoes plans of boxes, and after them the plans with the undo logs files, notes what stays, and removes the logs.
// Without a log there is nothing to undo; in place of a broken log goes the plan that the file's name tells of. Chains used
// by others stay, with the log, so a later down finds them again.
func undo(s *box.Store, k *netsetup.Kernel, own []netsetup.Plan, logs []string) error {
	there := make([]string, len(own))
	plans := own
	for _, file := range logs {
		plan, err := ReadPlan(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if errors.Is(err, box.ErrUnreadable) {
			s.Notef("warning: %s", brokenLog(err))
			plan, err = planOf(s, k, file)
		}
		if err != nil {
			return err
		}
		there, plans = append(there, file), append(plans, plan)
	}
	if len(plans) == 0 {
		return nil
	}
	for i, err := range netsetup.UndoAll(k, plans...) {
		switch {
		case errors.Is(err, netsetup.ErrInUse):
			s.Notef("stays: boxrun's chains, others have rules in them")
			continue
		case err != nil:
			return fmt.Errorf("undoing the network of %s: %w", plans[i].Owner, err)
		}
		for _, line := range plans[i].Stays {
			s.Notef("stays: %s", line)
		}
		if there[i] == "" {
			continue
		}
		if err := files.RemoveIfThere(there[i]); err != nil {
			return err
		}
	}
	return nil
}

// planOf returns a plan as found on the host, by the path of its log.
func planOf(s *box.Store, k *netsetup.Kernel, file string) (netsetup.Plan, error) {
	traces, err := netsetup.FindTraces(k)
	if err != nil {
		return netsetup.Plan{}, err
	}
	p := profiles.Default()
	p.Network.Bridge = box.NameOf(file)
	if traces.OfIPv6() {
		p.Network.Subnet6 = profiles.AutoSubnet6
	}
	for _, shared := range SharedPlans(s, Of(s, &box.Box{Profile: p})) {
		if shared.File == file {
			return shared.Plan, shared.Plan.RecordLost(k)
		}
	}
	return netsetup.Plan{}, nil
}
