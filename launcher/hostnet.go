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

// The undo logs of what several boxes share: a netsetup.Plan each.
func (s *Store) hostFile() string { return s.path("host.json") }

func (s *Store) bridgeFile(bridge string) string { return s.path("bridges", bridge+".json") }

// raise brings the host's and the bridge's network in place, or mends it; it returns what it had to mend. The caller
// holds the network's lock.
func (s *Store) raise(k *netsetup.Kernel, n netsetup.Network) ([]string, error) {
	k.Reread() // who had the lock before may have written since the ports were checked
	host, err := s.ensure(k, s.hostFile(), netsetup.Host)
	if err != nil {
		return nil, err
	}
	bridge, err := s.ensure(k, s.bridgeFile(n.Bridge), func() netsetup.Plan { return netsetup.Bridge(n) })
	return append(host, bridge...), err
}

// ensure applies the plan whose undo log is file, building and recording it first where there is none. It returns what
// was out of place of a plan that had been applied before.
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

// mend applies a plan that was applied before, and returns what was out of place.
func mend(k *netsetup.Kernel, p netsetup.Plan) ([]string, error) {
	drift, err := p.Drift(k)
	if err != nil || len(drift) == 0 {
		return nil, err
	}
	return drift, p.Apply(k)
}

// settle makes permanent what stays on the host after a success, so that down leaves it and says so, and has the boxes
// on its bridge know the new one's name.
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

// forget ends the state of the box named, and undoes what no other box needs: its bridge's network, and the host's
// with the last bridge. As the network's lock is held meanwhile, of two boxes that go at once the second to come
// here finds itself the last. While there is a box that nobody can read, all that it may need stays.
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

// removeUnfinished removes the files that a boxrun killed while it wrote one left behind. The caller holds the
// network's lock, and no box is left.
func (s *Store) removeUnfinished() {
	for _, dir := range []string{"", "boxes", "bridges"} {
		left, _ := filepath.Glob(s.path(dir, ".*.new")) // the pattern is well-formed
		for _, file := range left {
			_ = os.Remove(file) // what stays keeps the directory, no more
		}
	}
}

// sweep removes the rules of boxes that have no state: a save of the firewall may bring them back at boot. The caller
// holds the network's lock, under which a box gets its state before it gets rules.
func (s *Store) sweep(k *netsetup.Kernel, boxes []*Box) error {
	swept, err := netsetup.Sweep(k, nameList(boxes))
	for _, name := range swept {
		s.notef("%s", sweptLine(name))
	}
	return err
}

// sweptLine says what netsetup.Sweep has done.
func sweptLine(name string) string { return "removed the rules of " + name + ", which is not there" }

// lower undoes the bridges that no box in boxes is on, and the host's part when no bridge is left.
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

// undo undoes the plan whose undo log is file, says what stays, and removes the log. No log: nothing to undo. What others
// rely on stays, with its log: a later down finds it again.
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

func removeIfThere(file string) error { return ignoreNotExist(os.Remove(file)) }

func ignoreNotExist(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
