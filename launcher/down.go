package launcher

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"boxrun/launcher/apptainer"
	"boxrun/launcher/box"
	"boxrun/launcher/files"
	"boxrun/launcher/guest"
	"boxrun/launcher/network"
	"boxrun/launcher/process"
	"boxrun/launcher/storage"
	"boxrun/launcher/units"
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
	unlock, err := units.LockToStop(ctx, l.Store, name)
	if errors.Is(err, units.ErrTakenDown) {
		return Down{Name: name, Left: true}, nil
	}
	if err != nil {
		return Down{}, err
	}
	defer unlock()
	if err := units.HookAgain(ctx, l.Store, name); err != nil {
		return Down{}, err
	}
	k, err := network.OpenKernel()
	if err != nil {
		return Down{}, err
	}
	defer k.Close()
	b, err := l.Load(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Down{Name: name, Left: units.UnitIsOf(units.OwnUnit(), name)}, network.Forget(ctx, l.Store, k, name)
	case errors.Is(err, box.ErrUnreadable):
		return Down{Name: name, Found: true}, l.clearUnread(ctx, k, name)
	case err != nil:
		return Down{}, err
	case units.OthersBox(b), units.DiedUnseen(b):
		return Down{Name: name, Left: true}, nil
	}
	if timeout == nil {
		return l.clear(ctx, k, b, stopTimeout(b))
	}
	return l.clear(ctx, k, b, *timeout)
}

func stopTimeout(b *box.Box) time.Duration { return b.Profile.Systemd.StopTimeout }

// clear stops the box where it lives and removes all there is of it, however far its start or an earlier clear came.
// The state goes last: until then the next command finds what is left.
func (l *Launcher) clear(ctx context.Context, k *netsetup.Kernel, b *box.Box, timeout time.Duration) (Down, error) {
	down := Down{Name: b.Name, Found: true, Overlay: b.Overlay()}
	if b.MadeOverlay {
		down.Overlay = ""
	}
	if b.Phase == box.Starting {
		if err := l.orphan(ctx, b); err != nil {
			return down, err
		}
	}
	killed, units, err := l.stopWithUnits(ctx, b, timeout)
	defer units.Close()
	if err != nil {
		return down, err
	}
	if err := errors.Join(b.Ports.Undo(k), l.remove(b), units.Wait(ctx)); err != nil {
		return down, err
	}
	if err := network.Forget(ctx, l.Store, k, b.Name); err != nil {
		return down, err
	}
	down.Killed = killed != nil && timeout == 0
	if killed != nil && !down.Killed {
		return down, guest.KilledProblem(b.Name, timeout, killed)
	}
	return down, nil
}

// orphan waits for a start whose boxrun was killed, or ends it, and adopts the box it made: left alone it would come
// up later.
func (l *Launcher) orphan(ctx context.Context, b *box.Box) error {
	if b.Init.PID > 1 {
		return nil
	}
	if err := apptainer.AwaitOrEnd(ctx, l.Conf(), b.Name, apptainer.OrphanTimeout); err != nil {
		return err
	}
	r, err := apptainer.ReadRecord(b.Record)
	if err != nil {
		return files.IgnoreNotExist(err)
	}
	if r.Verify() != nil {
		return nil // of an instance long dead; remove takes it away
	}
	return adopt(b, r)
}

// stopWithUnits stops the box, and tells systemd so: before, or where the box is given longer than its services have to
// stop, when it has stopped.
func (l *Launcher) stopWithUnits(ctx context.Context, b *box.Box, timeout time.Duration) (killed error, services units.Stoppings, err error) {
	long := timeout > stopTimeout(b)
	if !long {
		services = units.Stop(ctx, l.Store, b)
	}
	killed, err = l.stop(ctx, b, timeout)
	if long && err == nil {
		services = units.Stop(ctx, l.Store, b)
	}
	return killed, services, err
}

// stop tells the box's init to go and waits until Apptainer's master has cleaned up. A box that is dead already needs
// nothing. killed is as Stop has it.
func (l *Launcher) stop(ctx context.Context, b *box.Box, timeout time.Duration) (killed, err error) {
	if b.Init.PID <= 1 || !box.SameBoot(b) {
		return nil, nil
	}
	b.Phase = box.Stopping
	if err := files.IgnoreFull(l.Save(b)); err != nil { // it is for ps, and for nobody's safety
		return nil, err
	}
	return guest.Stop(ctx, b.Init, b.Master, b.Cgroup, timeout, l.Live)
}

// remove takes away the lease of the box, and its files.
func (l *Launcher) remove(b *box.Box) error {
	network.CollectLeases(l.Store)
	return l.removeOwn(b)
}

// removeOwn takes away the files of the box: Apptainer's record and logs of it, and what was prepared for it.
func (l *Launcher) removeOwn(b *box.Box) error {
	return errors.Join(l.removeRecord(b), storage.RemoveMade(b), storage.DropImage(l.Store, b), os.RemoveAll(l.BoxDir(b.Name)))
}

// removeRecord takes away Apptainer's record and logs of the box, unless they are of another instance by now: without
// them nobody could stop that one.
func (l *Launcher) removeRecord(b *box.Box) error {
	if b.Foreign() {
		l.Notef("stays: the Apptainer instance %q that boxrun did not start", b.Name)
		return nil
	}
	return errors.Join(os.RemoveAll(filepath.Dir(b.Record)), files.RemoveIfThere(b.Log), files.RemoveIfThere(b.OutLog()))
}

// adopt notes the processes of a running instance and the cgroup it has to itself.
func adopt(b *box.Box, r apptainer.Record) error {
	var err error
	if b.Init, err = process.Open(r.PID); err != nil {
		return err
	}
	if b.Master, err = process.Open(r.PPID); err != nil {
		return err
	}
	b.Cgroup, err = process.CgroupOf(r.PID)
	return err
}
