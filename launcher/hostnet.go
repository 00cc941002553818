package launcher

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"boxrun/netsetup"
)

// The undo logs of the network shared by boxes: each file holds a netsetup.Plan.
func (s *Store) hostFile() string { return s.path("host.json") }

func (s *Store) bridgeFile(bridge string) string { return s.path("bridges", bridge+".json") }

// raise puts the host's and the bridge's network in place, or repairs them. raise returns what was out of place. The
// caller holds the network's lock.
func (s *Store) raise(k *netsetup.Kernel, n netsetup.Network) ([]string, error) {
	k.Reread() // who had the lock before may have written since the ports were checked
	host, err := s.ensure(k, s.hostFile(), netsetup.Host)
	if err != nil {
		return nil, err
	}
	bridge, err := s.ensure(k, s.bridgeFile(n.Bridge), func() netsetup.Plan { return netsetup.Bridge(n) })
	return append(host, bridge...), err
}

// ensure applies the plan with the undo log file. Without a log, ensure builds the plan and records the host's state in
// a new log first. Otherwise ensure returns what was out of place.
func (s *Store) ensure(k *netsetup.Kernel, file string, build func() netsetup.Plan) ([]string, error) {
	plan := netsetup.Plan{}
	err := readJSON(file, &plan)
	if errors.Is(err, fs.ErrNotExist) {
		plan = build()
		if err := plan.Record(k); err != nil {
			return nil, err
		}
		if err := writeJSON(file, plan); err != nil {
			return nil, err
		}
		return nil, plan.Apply(k)
	}
	if err != nil {
		return nil, err
	}
	return mend(k, plan)
}

// mend repairs a plan applied before, and returns what was out of place. A plan without drift is not applied again.
func mend(k *netsetup.Kernel, p netsetup.Plan) ([]string, error) {
	drift, err := p.Drift(k)
	if err != nil || len(drift) == 0 {
		return nil, err
	}
	return drift, p.Apply(k)
}

// settle makes permanent what stays on the host after a success: down then leaves these changes and says so. settle
// also adds the new box's name to the hosts files on its bridge.
func (s *Store) settle(ctx context.Context, b *Box) error {
	if !b.bridged() {
		return nil
	}
	unlock, err := s.lockNetwork(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	plan := netsetup.Plan{}
	if err := readJSON(s.hostFile(), &plan); err != nil {
		return err
	}
	plan.Settle()
	if err := writeJSON(s.hostFile(), plan); err != nil {
		return err
	}
	_, err = s.tellNames()
	return err
}

// forget ends the state of the named box and undoes whatever no other box needs: the network of its bridge, and with
// the last bridge the host's. forget holds the network's lock meanwhile. Thus of two boxes going at once, the second
// sees itself as the last. As long as any box's record is unreadable, the shared network stays, since the box may need
// all of the network.
func (s *Store) forget(ctx context.Context, k *netsetup.Kernel, name string) error {
	unlock, err := s.lockNetwork(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	others, err := s.others(name)
	if errors.Is(err, errUnreadable) {
		s.notef("stays: the network that boxes share: %v", err)
		return removeIfThere(s.boxFile(name))
	}
	if err != nil {
		return err
	}
	if err := errors.Join(s.sweep(k, others), s.lower(k, others)); err != nil {
		return err
	}
	if err := removeIfThere(s.boxFile(name)); err != nil {
		return err
	}
	if len(others) > 0 {
		_, err = s.tellNames()
		return err
	}
	s.removeUnfinished()
	s.removeEmpty("boxes", "bridges", "cni", "leases")
	return removeIfThere(s.conf())
}

// removeUnfinished removes the temporary files left by a boxrun killed while writing a file. The caller holds the
// network's lock, and no box is left.
func (s *Store) removeUnfinished() {
	for _, dir := range []string{"", "boxes", "bridges"} {
		left, _ := filepath.Glob(s.path(dir, ".*.new")) // the pattern is well-formed
		for _, file := range left {
			_ = os.Remove(file) // a file that stays only keeps its directory
		}
	}
}

// sweep removes the rules of boxes without a state: a saved firewall may bring such rules back at boot. The caller
// holds the network's lock. A box gets its state under the same lock, before its rules.
func (s *Store) sweep(k *netsetup.Kernel, boxes []*Box) error {
	swept, err := netsetup.Sweep(k, nameList(boxes))
	for _, name := range swept {
		s.notef("%s", sweptLine(name))
	}
	return err
}

// sweptLine is the message for a name returned by netsetup.Sweep.
func sweptLine(name string) string { return "removed the rules of " + name + ", which is not there" }

// lower undoes the bridges without a box in boxes, and the host's part if no bridge is left.
func (s *Store) lower(k *netsetup.Kernel, boxes []*Box) error {
	files, err := filepath.Glob(s.path("bridges", "*.json"))
	if err != nil {
		return err
	}
	needed := map[string]bool{}
	for _, b := range boxes {
		if b.bridged() {
			needed[b.Profile.Network.Bridge] = true
		}
	}
	var left int
	for _, file := range files {
		if needed[nameOf(file)] {
			left++
			continue
		}
		if err := s.undo(k, file); err != nil {
			return err
		}
	}
	if left > 0 {
		return nil
	}
	return s.undo(k, s.hostFile())
}

// undo undoes the plan with the undo log file, notes what stays, and removes the log. Without a log there is nothing to
// undo. Chains used by others stay, with the log, so a later down finds them again.
func (s *Store) undo(k *netsetup.Kernel, file string) error {
	plan := netsetup.Plan{}
	if err := readJSON(file, &plan); err != nil {
		return ignoreNotExist(err)
	}
	err := plan.Undo(k)
	if errors.Is(err, netsetup.ErrInUse) {
		s.notef("stays: boxrun's chains, others have rules in them")
		return nil
	}
	if err != nil {
		return fmt.Errorf("undoing %s: %w", filepath.Base(file), err)
	}
	for _, line := range plan.Stays {
		s.notef("stays: %s", line)
	}
	return removeIfThere(file)
}

// removeIfThere removes a file. A missing file is no error.
func removeIfThere(file string) error { return ignoreNotExist(os.Remove(file)) }

// ignoreNotExist returns nil for an error of a missing file, and otherwise err.
func ignoreNotExist(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
