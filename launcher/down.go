package launcher

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"boxrun/launcher/apptainer"
	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/launcher/guest"
	"boxrun/launcher/lan"
	"boxrun/launcher/network"
	"boxrun/launcher/process"
	"boxrun/launcher/storage"
	"boxrun/launcher/units"
	"boxrun/netsetup"
)

// Down is the result of a down.
type Down struct {
	Name    string
	Found   bool   // false: the host had nothing of the box
	Left    bool   // run by systemd after the end of the box: the rest is another boxrun's or a person's, or done
	Killed  bool   // the box was killed at once, because a timeout was 0, or by another boxrun with less time
	Overlay string // directory that was kept, "" for none
}

// Down stops a box cleanly and removes everything boxrun has set up on the host for the box. Down reads only the
// state, never the profile; where the state cannot be read, Down goes by the box's name. Without any trace of the box
// Found is false, without an error.
//
// timeout limits how long the box may take to stop. nil means the profile's stop_timeout as of the start; 0 kills the
// box at once. A box killed after its time has run out is down, and the error is ErrKilled. The shorter timeout counts
// where another boxrun is stopping the box already.
func (l *Launcher) Down(ctx context.Context, name string, timeout *time.Duration) (Down, error) {
	hurried := func() error { return nil }
	if timeout != nil {
		hurried = l.hurry(ctx, name, *timeout)
	}
	down, err := l.downLocked(ctx, name, timeout, hurried)
	if killed := hurried(); killed != nil && err == nil {
		down.Found, down.Killed = true, *timeout == 0
		if !down.Killed {
			err = guest.KilledProblem(name, *timeout, killed)
		}
	}
	return down, err
}

// downLocked is the part of a down done under the box's lock. hurried is called as soon as the lock is held.
func (l *Launcher) downLocked(
	ctx context.Context, name string, timeout *time.Duration, hurried func() error,
) (Down, error) {
	unlock, err := units.LockToStop(ctx, l.Store, name)
	if errors.Is(err, units.ErrTakenDown) {
		return Down{Name: name, Left: true}, nil
	}
	if err != nil {
		return Down{}, err
	}
	defer unlock()
	defer l.moves.Keep(manyMoves)()
	_ = hurried() // from now on no other boxrun stops the box; Down asks for the result
	if err := units.Rearm(ctx, name); err != nil {
		return Down{}, err
	}
	k, err := network.OpenKernel(l.Store)
	if err != nil {
		return Down{}, err
	}
	defer k.Close()
	b, err := l.Load(name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && l.IsLost(name):
		if err := network.Recall(ctx, l.Store, k); err != nil {
			return Down{}, err
		}
		return Down{Name: name, Found: true}, l.clearUnread(ctx, k, name)
	case errors.Is(err, fs.ErrNotExist):
		next, err := units.StopNext(ctx, l.Store, name)
		journal := fault.Each(storage.UnmadeMemory(l.Store, &box.Box{Name: name}), files.Removal.Do)
		return Down{Name: name, Found: next, Left: units.IsOf(l.Caller.Unit, name)}, errors.Join(err, journal, network.Forget(ctx, l.Store, k, name))
	case errors.Is(err, box.ErrUnreadable):
		return Down{Name: name, Found: true}, l.clearUnread(ctx, k, name)
	case err != nil:
		return Down{}, err
	case units.OthersBox(l.Caller, b), units.DiedUnseen(l.Caller, b):
		return Down{Name: name, Left: true}, nil
	}
	return l.clear(ctx, k, b, *cmp.Or(timeout, &b.Profile.Systemd.StopTimeout))
}

// stopTimeout returns the stop_timeout of the profile as of the start.
func stopTimeout(b *box.Box) time.Duration { return b.Profile.Systemd.StopTimeout }

// clear stops the box if it lives, and removes everything boxrun has set up for the box, however far its start or an
// earlier clear came. The state is removed last: until then the next command finds what is left.
func (l *Launcher) clear(ctx context.Context, k *netsetup.Kernel, b *box.Box, timeout time.Duration) (Down, error) {
	down := Down{Name: b.Name, Found: true, Overlay: b.Overlay()}
	if b.MadeOverlay {
		down.Overlay = ""
	}
	begun := b.Phase == box.Starting
	if begun {
		if err := cmp.Or(l.orphan(ctx, b), apptainer.EndPlugins(ctx)); err != nil {
			return down, err
		}
	}
	killed, services, err := l.stopWithUnits(ctx, k, b, timeout)
	defer services.Close()
	if err != nil {
		return down, err
	}
	byAnother := files.Exists(l.hurryMark(b.Name))
	if begun { // what the service ends may have a lease and a veth, or make them, until then
		err = errors.Join(services.Wait(ctx), network.AwaitGone(ctx, l.Store, b), l.remove(ctx, b), units.SweepScopes(ctx))
	} else {
		err = errors.Join(l.remove(ctx, b), services.Wait(ctx))
	}
	if err != nil {
		return down, errors.Join(err, b.Ports.Undo(k))
	}
	if err := network.Forget(ctx, l.Store, k, b.Name, b.Ports); err != nil {
		return down, err
	}
	down.Killed = killed != nil && timeout == 0 || byAnother
	if killed != nil && timeout > 0 {
		return down, guest.KilledProblem(b.Name, timeout, killed)
	}
	return down, nil
}

// orphan waits for the rest of a start whose boxrun was killed, or ends the start, and adopts the box the start made.
// Otherwise the box would come up later. A stranger's instance is not the box.
func (l *Launcher) orphan(ctx context.Context, b *box.Box) error {
	if b.Init.PID > 1 || b.Stranger {
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
		return nil // the instance is long dead; remove deletes the record
	}
	return adopt(b, r)
}

// stopWithUnits stops the box, and tells systemd of the stop. Normally systemd is told first. If timeout is longer
// than the time its services have to stop, systemd is told after the box has stopped.
func (l *Launcher) stopWithUnits(ctx context.Context, k *netsetup.Kernel, b *box.Box, timeout time.Duration) (
	killed error, services units.Stopping, err error,
) {
	long := timeout > stopTimeout(b)
	if !long {
		services = units.Stop(ctx, l.Store, b)
	}
	killed, err = l.stop(ctx, k, b, timeout)
	if long && err == nil {
		services = units.Stop(ctx, l.Store, b)
	}
	return killed, services, err
}

// stop tells the box's init to stop, and waits until Apptainer's master has cleaned up. Meanwhile the network goes that
// only this box needs. For a dead box stop does nothing. killed is the killed of Stop.
func (l *Launcher) stop(ctx context.Context, k *netsetup.Kernel, b *box.Box, timeout time.Duration) (killed, err error) {
	if b.Init.PID <= 1 || !b.SameBoot() {
		return nil, nil
	}
	b.Phase = box.Stopping
	// Only ps needs the saved phase, and safety does not depend on the phase.
	if err := files.IgnoreFull(l.Save(b)); err != nil {
		return nil, err
	}
	stopping, end := context.WithCancel(ctx)
	var ahead sync.WaitGroup
	ahead.Go(func() { network.LowerAhead(stopping, l.Store, k, b) })
	killed, err = guest.Stop(ctx, b.Init, b.Master, b.Cgroup, timeout, l.Live)
	if err != nil {
		end() // the box may run on, and with it the wait for its end
	}
	ahead.Wait()
	end()
	return killed, err
}

// remove removes the lease and the files of the box.
func (l *Launcher) remove(ctx context.Context, b *box.Box) error {
	network.CollectLeases(l.Store)
	return l.removeOwn(ctx, b)
}

// removeOwn removes the files of the box, and notes if another instance keeps its own.
func (l *Launcher) removeOwn(ctx context.Context, b *box.Box) error {
	if b.Foreign() {
		l.Notef("stays: the Apptainer instance %q that boxrun did not start", b.Name)
	}
	left, err := l.leftovers(ctx, b)
	return errors.Join(err, closedToWriters(b.Name, fault.Each(left, files.Removal.Do)))
}

// closedToWriters returns a single error with a hint where the files of the box lie on a read-only file system.
func closedToWriters(name string, err error) error {
	var at *fs.PathError
	if !errors.Is(err, unix.EROFS) || !errors.As(err, &at) {
		return err
	}
	return fault.Refused(writableHint(filepath.Dir(at.Path)), "%s: an earlier start left %s, on a file system that is read-only now", name, at.Path)
}

// writableHint returns the advice for a directory on a read-only file system.
func writableHint(dir string) string {
	return fmt.Sprintf("make the file system writable that \"findmnt -T %s\" shows, or mount a tmpfs there", files.Quote(dir))
}

// leftovers returns the removal of the files of the box: Apptainer's record and logs, and the files boxrun prepared for
// the box. If another instance has taken the name since, its record and logs stay: without them nobody could stop the
// instance.
func (l *Launcher) leftovers(ctx context.Context, b *box.Box) ([]files.Removal, error) {
	var left []files.Removal
	if !b.Foreign() && b.Record != "" {
		left = append(left, files.Removal{Paths: []string{filepath.Dir(b.Record), b.Log, b.OutLog()}})
	}
	marks, markErr := storage.Marks(b)
	left = slices.Concat(left, marks, storage.Made(b), units.Kept(b), storage.UnmadeMemory(l.Store, b))
	if b.OnLAN() {
		left = append(left, files.Removal{Paths: []string{lan.Path(l.Store, b.Name)}})
	}
	kept, err := storage.KeptFor(ctx, l.Store, b)
	err = cmp.Or(err, markErr)
	if kept != "" {
		left = append(left, files.Removal{Paths: []string{kept}})
	}
	if b.MadeCgroups && b.SameBoot() {
		left = append(left, files.Removal{Paths: []string{process.InstancesCgroup()}, IfEmpty: true})
	}
	return append(left, files.Removal{Paths: []string{l.BoxDir(b.Name)}}), err
}

// adopt stores in b the processes of a running instance, and the cgroup of the instance.
func adopt(b *box.Box, r apptainer.Record) error {
	var initErr, masterErr, cgroupErr error
	b.Init, initErr = process.Open(r.PID)
	b.Master, masterErr = process.Open(r.PPID)
	b.Cgroup, cgroupErr = process.CgroupOf(r.PID)
	return cmp.Or(initErr, masterErr, cgroupErr)
}
