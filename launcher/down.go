package launcher

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"boxrun/netsetup"
)

// Down is what a down did.
type Down struct {
	Name    string
	Found   bool   // false: there was nothing of the box
	Left    bool   // run by systemd for a box that has ended: what is left to do another boxrun does, or did, or a person
	Killed  bool   // at once, as a timeout of 0 asks
	Overlay string // directory that was kept, "" where there is none
}

// Down stops a box cleanly and takes away everything boxrun put on the host for it. It reads only the state, never the
// profile; where it cannot read that, it goes by the box's name. timeout nil is the profile's stop_timeout, as it was at
// the start; with 0 the box is killed at once. One that had to be killed when its time was over is down, with ErrKilled.
func (l *Launcher) Down(ctx context.Context, name string, timeout *time.Duration) (Down, error) {
	unlock, err := l.lockToStop(ctx, name)
	if errors.Is(err, errTakenDown) {
		return Down{Name: name, Left: true}, nil
	}
	if err != nil {
		return Down{}, err
	}
	defer unlock()
	if err := l.hookAgain(ctx, name); err != nil {
		return Down{}, err
	}
	k, err := openKernel()
	if err != nil {
		return Down{}, err
	}
	defer k.Close()
	b, err := l.load(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Down{Name: name, Left: unitIsOf(ownUnit(), name)}, l.forget(ctx, k, name)
	case errors.Is(err, errUnreadable):
		return Down{Name: name, Found: true}, l.clearUnread(ctx, k, name)
	case err != nil:
		return Down{}, err
	case b.othersBox(), b.diedUnseen():
		return Down{Name: name, Left: true}, nil
	}
	if timeout == nil {
		return l.clear(ctx, k, b, stopTimeout(b))
	}
	return l.clear(ctx, k, b, *timeout)
}

func stopTimeout(b *Box) time.Duration { return b.Profile.Systemd.StopTimeout }

// clear stops the box where it lives and removes all there is of it, however far its start or an earlier clear came.
// The state goes last: until then the next command finds what is left.
func (l *Launcher) clear(ctx context.Context, k *netsetup.Kernel, b *Box, timeout time.Duration) (Down, error) {
	down := Down{Name: b.Name, Found: true, Overlay: b.overlay()}
	if b.MadeOverlay {
		down.Overlay = ""
	}
	if b.Phase == Starting {
		if err := l.orphan(ctx, b); err != nil {
			return down, err
		}
	}
	killed, units, err := l.stopWithUnits(ctx, b, timeout)
	defer units.Close()
	if err != nil {
		return down, err
	}
	if err := errors.Join(b.Ports.Undo(k), l.remove(b), units.wait(ctx)); err != nil {
		return down, err
	}
	if err := l.forget(ctx, k, b.Name); err != nil {
		return down, err
	}
	down.Killed = killed != nil && timeout == 0
	if killed != nil && !down.Killed {
		return down, killedProblem(b.Name, timeout, killed)
	}
	return down, nil
}

// killedProblem says why a box had to be killed: errSlow or errDeaf.
func killedProblem(name string, timeout time.Duration, why error) error {
	if errors.Is(why, errDeaf) {
		return &Problem{Kind: ErrKilled, Text: name + " was killed: " + errDeaf.Error(),
			Hint: "the image's /sbin/init has to stop on SIGRTMIN+3, as systemd does"}
	}
	return &Problem{Kind: ErrKilled,
		Text: fmt.Sprintf("%s did not stop within %s and was killed", name, timeout),
		Hint: "raise systemd.stop_timeout, or look at what hangs with \"boxrun logs\" before the next down"}
}

// orphan waits for a start whose boxrun was killed, or ends it, and adopts the box it made: left alone it would come
// up later.
func (l *Launcher) orphan(ctx context.Context, b *Box) error {
	if b.Init.PID > 1 {
		return nil
	}
	if err := awaitOrEnd(ctx, l.conf(), b.Name, orphanTimeout); err != nil {
		return err
	}
	r, err := readRecord(b.Record)
	if err != nil {
		return ignoreNotExist(err)
	}
	if r.verify() != nil {
		return nil // of an instance long dead; remove takes it away
	}
	return b.adopt(r)
}

// orphanTimeout is how long the rest of a start may take that nobody waits for any more: CNI gives up after 5 s.
const orphanTimeout = 8 * time.Second

// stopWithUnits stops the box, and tells systemd so: before, or where the box is given longer than its services have to
// stop, when it has stopped.
func (l *Launcher) stopWithUnits(ctx context.Context, b *Box, timeout time.Duration) (killed error, services stoppings, err error) {
	long := timeout > stopTimeout(b)
	if !long {
		services = l.stopUnits(ctx, b)
	}
	killed, err = l.stop(ctx, b, timeout)
	if long && err == nil {
		services = l.stopUnits(ctx, b)
	}
	return killed, services, err
}

// stop tells the box's init to go and waits until Apptainer's master has cleaned up. A box that is dead already needs
// nothing. killed is as stopBox has it.
func (l *Launcher) stop(ctx context.Context, b *Box, timeout time.Duration) (killed, err error) {
	if b.Init.PID <= 1 || !sameBoot(b) {
		return nil, nil
	}
	b.Phase = Stopping
	if err := ignoreFull(l.save(b)); err != nil { // it is for ps, and for nobody's safety
		return nil, err
	}
	return stopBox(ctx, b.Init, b.Master, b.Cgroup, timeout, l.Live)
}

// remove takes away the lease of the box, and its files.
func (l *Launcher) remove(b *Box) error {
	l.collectLeases()
	return l.removeOwn(b)
}

// removeOwn takes away the files of the box: Apptainer's record and logs of it, and what was prepared for it.
func (l *Launcher) removeOwn(b *Box) error {
	return errors.Join(l.removeRecord(b), b.removeMade(), l.dropImage(b), os.RemoveAll(l.boxDir(b.Name)))
}

// collectLeases removes the leases of the dead, and gives their paths. Some may be another runtime's: what is wrong with
// those keeps no box of boxrun's from going or coming, and is said.
func (s *Store) collectLeases() []string {
	removed, err := netsetup.CollectLeases(s.leaseDirs()...)
	for _, e := range joined(err) {
		s.notef("warning: %v", e)
	}
	return removed
}

// removeRecord takes away Apptainer's record and logs of the box, unless they are of another instance by now: without
// them nobody could stop that one.
func (l *Launcher) removeRecord(b *Box) error {
	if b.foreign() {
		l.notef("stays: the Apptainer instance %q that boxrun did not start", b.Name)
		return nil
	}
	return errors.Join(os.RemoveAll(filepath.Dir(b.Record)), removeIfThere(b.Log), removeIfThere(b.outLog()))
}

// adopt notes the processes of a running instance and the cgroup it has to itself.
func (b *Box) adopt(r record) error {
	var err error
	if b.Init, err = openProcess(r.PID); err != nil {
		return err
	}
	if b.Master, err = openProcess(r.PPID); err != nil {
		return err
	}
	b.Cgroup, err = cgroupOf(r.PID)
	return err
}

func (b *Box) overlay() string {
	if b.Profile.Storage.Root != "overlay" {
		return ""
	}
	return b.Profile.Storage.Overlay
}

func sameBoot(b *Box) bool {
	id, err := bootID()
	return err == nil && id == b.BootID
}
