package launcher

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/launcher/guest"
	"boxrun/launcher/health"
	"boxrun/launcher/list"
	"boxrun/launcher/units"
	"boxrun/profiles"
)

// keepLooking notes whether a box is ready, and has the host's systemd look at the box from now on, where the profile wants
// looks. A box that nobody looks at works all the same: keepLooking warns.
func (u *upRun) keepLooking(ctx context.Context, b *box.Box, up *Up, ready bool) {
	if err := u.noteHealth(b, up, ready); files.IgnoreFull(err) != nil {
		u.Notef("%s: warning: its health is judged by the next look: %v", b.Name, err)
	}
	lines, err := resumeLooks(ctx, u.Launcher, b)
	if !up.Started {
		up.Repaired = append(up.Repaired, lines...)
	}
	if err != nil && ctx.Err() == nil {
		u.Notef("%s: warning: nobody looks at it every %v: %v", b.Name, b.Profile.Health.Interval, err)
	}
}

// resumeLooks has the host's systemd look at a running box from now on, where the profile wants looks. Where looks had stopped
// resumeLooks looks once, and returns a line. The caller holds the lock of the box.
func resumeLooks(ctx context.Context, l *Launcher, b *box.Box) ([]string, error) {
	if b.Profile.Health.Interval == 0 {
		return nil, nil
	}
	if !units.Booted() {
		return nil, errors.New("this host is not run by systemd")
	}
	started, err := units.StartLooks(ctx, l.Store, b)
	if err != nil {
		return nil, err
	}
	r, err := health.Load(l.Store, b.Name)
	if err != nil {
		return nil, err
	}
	if stopped := r.Stopped(b, time.Now()); stopped != "" {
		line, err := l.keep(ctx, b, health.LookAt(ctx, b))
		if line != "" {
			l.Note(line)
		}
		return []string{stopped}, err
	}
	if started {
		return []string{units.StoppedLooks(b.Name)}, nil
	}
	return nil, nil
}

// looksDrift returns a line where nobody has looked at a running box for long; none while another boxrun works on the box, when
// looks say nothing.
func looksDrift(s *box.Store, b *box.Box) []string {
	if b.Profile.Health.Interval == 0 {
		return nil
	}
	stopped := health.Known(s, b.Name).Stopped(b, time.Now())
	if stopped == "" || s.Locked(b.Name) {
		return nil
	}
	return []string{stopped}
}

// noteHealth notes in the record of looks that the box is ready, and how often it was restarted as unhealthy.
func (u *upRun) noteHealth(b *box.Box, up *Up, ready bool) error {
	r, err := health.Load(u.Store, b.Name) // an unreadable record is replaced
	if up.Started {
		r.Restarts = u.healed
	}
	if ready {
		failed := list.Map(up.Failed, func(f guest.FailedUnit) string { return f.Unit })
		r, _ = r.After(health.Look{At: time.Now(), Failed: failed}, b)
		r.Services = health.Services(b, up.wanted, r.Services)
		up.Ended = health.Ended(b, r.Services)
	}
	return errors.Join(err, health.Save(u.Store, b.Name, r))
}

// LookAfter looks at a box once, for the timer of the box. What was found is kept, and a change is acted on: health.on_failure
// is started, and the box restarted, where the profile wants so. line tells of a change; "" for none. A box that another
// boxrun works on is left alone.
func (l *Launcher) LookAfter(ctx context.Context, name string) (line string, err error) {
	b, err := l.Load(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", units.StopLooks(ctx, name)
	}
	if err != nil || b.Phase != box.Running || !b.Alive() {
		return "", err
	}
	look := health.LookAt(ctx, b)
	if len(look.Unmet) > 0 && b.Ends(ctx) || ctx.Err() != nil { // a killed init answers no more, and is there for a while
		return "", context.Cause(ctx)
	}
	unlock, err := l.TryLockBox(ctx, name)
	if errors.Is(err, box.ErrBusy) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer unlock()
	now, err := l.Load(name)
	if err != nil || now.Init != b.Init || now.Phase != box.Running || !now.Alive() { // the look was at a box that goes
		return "", files.IgnoreNotExist(err)
	}
	return l.keep(ctx, b, look)
}

// keep keeps the result of a look at a box, and acts on it. The caller holds the lock of the box.
func (l *Launcher) keep(ctx context.Context, b *box.Box, look health.Look) (line string, err error) {
	r, unread := health.Load(l.Store, b.Name) // an unreadable record is replaced
	next, verdict := r.After(look, b)
	if err := health.Save(l.Store, b.Name, next); err != nil {
		return "", errors.Join(unread, err)
	}
	errs := []error{unread}
	if verdict.Notify {
		errs = append(errs, units.StartFailureUnit(ctx, b.Profile))
	}
	if verdict.Restart {
		errs = append(errs, units.StartRestart(ctx, l.Store, b))
	}
	if verdict.Line != "" {
		line = b.Name + ": " + verdict.Line
	}
	return line, errors.Join(errs...)
}

// unhealthy returns the restarts so far of a box to be restarted because it is unhealthy. ok is false if the box is not, by
// now: somebody has taken it down, or restarted it.
func (l *Launcher) unhealthy(b *box.Box) (restarts []time.Time, ok bool) {
	r, err := health.Load(l.Store, b.Name)
	return r.Restarts, err == nil && r.State == health.Unhealthy && b.Phase == box.Running
}

// Check judges a box as it is now. It changes nothing and starts nothing. Root looks at the box and at the host; others are
// told what the last look for the box's timer found, and get an ErrRefused where there is none. With watch, Check judges the
// box after that time, or when the box dies.
func (l *Launcher) Check(ctx context.Context, name string, watch time.Duration) (health.Facts, error) {
	b, err := l.Load(name)
	if err == nil && b.Watched(ctx, watch) {
		b, err = l.Load(name)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return l.absent(name), nil
	case err != nil:
		return health.Facts{}, err
	}
	if f := (health.Facts{State: b.State()}); f.State != string(box.Running) {
		return f, nil
	}
	r, err := health.Load(l.Store, name)
	if err != nil {
		return health.Facts{}, err
	}
	if !l.Caller.Root {
		f := health.FactsOf(b, b.State(), r, time.Now())
		if !f.Known && b.Profile.Health.Interval == 0 {
			return f, fault.Refused("run it with sudo, or set health.interval", "only root can look at %q", name)
		}
		return f, nil
	}
	f, err := l.lookNow(ctx, b, r)
	if (err != nil || len(f.Unmet) > 0) && b.Ends(ctx) { // a killed init answers no more, and is there for a while
		err = nil
	}
	now, loadErr := l.Load(name)
	switch {
	case errors.Is(loadErr, fs.ErrNotExist): // it went while it was looked at, and the look says nothing
		return l.absent(name), nil
	case loadErr != nil:
		return f, loadErr
	case now.State() != string(box.Running) || now.Init != b.Init:
		return health.Facts{State: now.State()}, nil
	}
	return f, err
}

// lookNow looks at a running box, and at the host around it.
func (l *Launcher) lookNow(ctx context.Context, b *box.Box, r health.Record) (health.Facts, error) {
	type drift struct {
		lines []string
		err   error
	}
	drifted := make(chan drift, 1)
	go func() {
		lines, err := l.driftOf(b)
		drifted <- drift{lines, err}
	}()
	look := health.LookAt(ctx, b)
	d := <-drifted
	return health.FactsSeen(b, look, r, d.lines), d.err
}

// absent returns the facts of a box without a record: it is down, or another boxrun is between the end of the old box and
// the start of the next.
func (l *Launcher) absent(name string) health.Facts {
	if l.Locked(name) {
		return health.Facts{State: health.Busy}
	}
	return health.Facts{State: health.Down}
}

// Reread returns the profile of a box as it is on the disk now.
func (l *Launcher) Reread(name string) (profiles.Profile, error) {
	b, err := l.Find(name)
	if err != nil {
		return profiles.Profile{}, err
	}
	now := NowOf(l.Store, b)
	return now.Profile, fault.Wrap(fmt.Sprintf("restarting %s", name), now.Unread)
}
