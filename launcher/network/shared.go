package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"boxrun/launcher/box"
	"boxrun/launcher/conf"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/launcher/list"
	"boxrun/netsetup"
)

// HostFile is the undo log of the host's part in the network shared by boxes: a netsetup.Plan as applied.
func HostFile(s *box.Store) string { return s.Path("host.json") }

// Host6File is the undo log of the host's part for IPv6.
func Host6File(s *box.Store) string { return s.Path("host6.json") }

// BridgeFile is the undo log of a bridge.
func BridgeFile(s *box.Store, bridge string) string { return s.Path("bridges", bridge+".json") }

// ReadPlan reads an undo log. The error is os.ErrNotExist for a network not raised.
func ReadPlan(file string) (plan netsetup.Plan, err error) {
	err = box.ReadJSON(file, &plan)
	return plan, err
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

// Raise puts the host's and the bridge's network in place, or repairs them. Raise returns what was out of place. The
// caller holds the network's lock.
func Raise(s *box.Store, k *netsetup.Kernel, n netsetup.Network) (repaired []string, err error) {
	k.Reread() // who had the lock before may have written since the ports were checked
	for _, shared := range SharedPlans(s, n) {
		lines, err := shared.ensure(k)
		if err != nil {
			return nil, err
		}
		repaired = append(repaired, lines...)
	}
	return repaired, nil
}

// ensure applies the plan with the undo log. Without a log, ensure records the host's state in a new log first.
// Otherwise ensure renews the log for what this boxrun and the host's routing ask for, and returns what was out of
// place.
func (s Shared) ensure(k *netsetup.Kernel) ([]string, error) {
	plan, err := ReadPlan(s.File)
	if errors.Is(err, fs.ErrNotExist) {
		if err := s.Plan.Record(k); err != nil {
			return nil, err
		}
		if err := box.WriteJSON(s.File, s.Plan); err != nil {
			return nil, err
		}
		return nil, s.Plan.Apply(k)
	}
	if err != nil {
		return nil, err
	}
	plan, changed, err := plan.Renewed(k, s.Plan)
	if err == nil && changed {
		err = box.WriteJSON(s.File, plan)
	}
	if err != nil {
		return nil, err
	}
	return repair(k, plan)
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
	if !b.Bridged() {
		return nil
	}
	unlock, err := s.LockNetwork(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	err = settle(HostFile(s))
	if err == nil {
		err = files.IgnoreNotExist(settle(Host6File(s)))
	}
	if err == nil {
		_, err = conf.TellNames(s)
	}
	return err
}

// settle settles the plan with the undo log file.
func settle(file string) error {
	plan, err := ReadPlan(file)
	if err != nil {
		return err
	}
	plan.Settle()
	return box.WriteJSON(file, plan)
}

// Forget ends the state of the named box and undoes whatever no other box needs: the network of its bridge, and with
// the last bridge the host's. Forget holds the network's lock meanwhile. Thus of two boxes going at once, the second
// sees itself as the last. As long as any box's record is unreadable, the shared network stays, since the box may need
// all of the network.
func Forget(ctx context.Context, s *box.Store, k *netsetup.Kernel, name string) error {
	unlock, err := s.LockNetwork(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	others, err := s.Others(name)
	if errors.Is(err, box.ErrUnreadable) {
		s.Notef("stays: the network that boxes share: %v", err)
		return files.RemoveIfThere(s.BoxFile(name))
	}
	if err != nil {
		return err
	}
	if err := errors.Join(Sweep(s, k, others), lower(s, k, others)); err != nil {
		return err
	}
	if err := fault.Each(StateOf(s, name, len(others) == 0), files.Removal.Do); err != nil || len(others) == 0 {
		return err
	}
	_, err = conf.TellNames(s)
	return err
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
	return []files.Removal{{Paths: gone}, {Paths: append(dirs, s.Dir), IfEmpty: true}}
}

// Clean takes away what no box needs: leases of the dead, rules and bridges of boxes that are gone, networks of killed
// doctors, and names of gone boxes in hosts files. Clean returns a line for each, and goes on past errors.
func Clean(ctx context.Context, s *box.Store, k *netsetup.Kernel) ([]string, error) {
	unlock, err := s.LockNetwork(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	boxes, err := s.All()
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, file := range CollectLeases(s) {
		lines = append(lines, "removed the lease of a dead owner: "+file)
	}
	k.Reread()
	swept, sweepErr := netsetup.Sweep(k, box.Names(boxes))
	for _, name := range swept {
		lines = append(lines, sweptLine(name))
	}
	devices, deviceErr := netsetup.SweepOutsiders()
	for _, name := range devices {
		lines = append(lines, "removed what a killed doctor left: "+name)
	}
	lowerErr := lower(s, k, boxes)
	names, nameErr := conf.TellNames(s)
	return append(lines, names...), errors.Join(sweepErr, deviceErr, lowerErr, nameErr)
}

// Sweep removes the rules of boxes without a state, and notes each box: a saved firewall may bring such rules back at
// boot. The caller holds the network's lock. A box gets its state under the same lock, before its rules.
func Sweep(s *box.Store, k *netsetup.Kernel, boxes []*box.Box) error {
	swept, err := netsetup.Sweep(k, box.Names(boxes))
	for _, name := range swept {
		s.Notef("%s", sweptLine(name))
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

// lower undoes the shared network that none of boxes needs.
func lower(s *box.Store, k *netsetup.Kernel, boxes []*box.Box) error {
	for _, file := range Unneeded(s, boxes) {
		if err := undo(s, k, file); err != nil {
			return err
		}
	}
	return nil
}

// undo undoes the plan with the undo log file, notes what stays, and removes the log. Without a log there is nothing to
// undo. Chains used by others stay, with the log, so a later down finds them again.
func undo(s *box.Store, k *netsetup.Kernel, file string) error {
	plan, err := ReadPlan(file)
	if err != nil {
		return files.IgnoreNotExist(err)
	}
	switch err := plan.Undo(k); {
	case errors.Is(err, netsetup.ErrInUse):
		s.Notef("stays: boxrun's chains, others have rules in them")
		return nil
	case err != nil:
		return fmt.Errorf("undoing %s: %w", filepath.Base(file), err)
	}
	for _, line := range plan.Stays {
		s.Notef("stays: %s", line)
	}
	return files.RemoveIfThere(file)
}
