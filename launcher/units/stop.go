package units

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	systemdbus "github.com/coreos/go-systemd/v22/dbus"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/process"
)

// Stopping is the stop of services that systemd was asked for.
type Stopping struct {
	host *Host // nil if systemd has no part in it
	jobs []stopJob
}

// stopJob is the stop of one service.
type stopJob struct {
	unit string
	done chan string      // receives the result of the job
	over *systemdbus.Conn // the connection that will tell the result
	err  error            // why nothing is to be waited for
}

// stop asks systemd to stop services. A missing service counts as stopped.
func (h *Host) stop(ctx context.Context, units ...string) Stopping {
	s := Stopping{host: h}
	for _, unit := range units {
		job := stopJob{unit: unit, done: make(chan string, 1)}
		job.err = h.job(ctx, (*systemdbus.Conn).StopUnitContext, unit, "replace", job.done)
		job.over = h.Conn.Conn
		if isBusError(job.err, "NoSuchUnit") {
			job.err = nil
			job.done <- "done"
		}
		s.jobs = append(s.jobs, job)
	}
	return s
}

// Wait returns when the services have stopped. Callers wait after the stop of the box.
func (s Stopping) Wait(ctx context.Context) error {
	var errs []error
	for _, job := range s.jobs {
		errs = append(errs, s.host.await(ctx, job))
	}
	return errors.Join(errs...)
}

// await returns when the service has stopped. A "boxrun up" in the service may be waiting for a lock of ours, and may
// not have listened yet when systemd told it to go. So await repeats the signal. A systemd that has executed itself anew
// goes on with the stop, and tells the end of it to nobody.
func (h *Host) await(ctx context.Context, job stopJob) error {
	if job.err != nil {
		return fault.Wrap("stopping "+job.unit, job.err)
	}
	ctx, cancel := context.WithTimeout(ctx, hostTimeout) // where fifty boxes stop at once, systemd has much to do
	defer cancel()
	again := time.NewTicker(200 * time.Millisecond)
	defer again.Stop()
	for {
		select {
		case <-job.done:
			return nil
		case <-again.C: // the signal fails where nothing runs any more
			if state, err := h.activeState(ctx, job.unit); err == nil && h.Conn.Conn != job.over && ended(state) {
				return nil
			}
			_ = h.KillUnitWithTarget(ctx, job.unit, systemdbus.Main, int32(process.HaltSignal))
		case <-ctx.Done():
			return fault.Wrap("waiting for the end of "+job.unit, context.Cause(ctx))
		}
	}
}

// ended reports whether a unit with this state runs nothing.
func ended(state string) bool { return state == "inactive" || state == "failed" }

// Close ends the connection to systemd.
func (s Stopping) Close() {
	if s.host != nil {
		s.host.Close()
	}
}

// Stop tells the host's systemd about the intended end of the box. From then on systemd starts nothing anew, and
// if this boxrun were killed, the services' own "boxrun down" would finish the work. The service around this process is
// left out, because systemd knows about its stop.
func Stop(ctx context.Context, store *box.Store, b *box.Box) Stopping {
	if !Booted() {
		return Stopping{}
	}
	host, err := Dial(ctx)
	if err != nil {
		store.Notef("warning: %v", err) // the box goes all the same
		return Stopping{}
	}
	own := store.Caller.Unit
	if !IsOf(own, b.Name) {
		host.awaitPast(ctx, Transient(b.Name), "activating")
		host.wakeBus(ctx)
	}
	units := unitsOf(b)
	if b.Profile.Health.Interval > 0 {
		units = append(lookUnits(b.Name), units...)
	}
	return host.stop(ctx, slices.DeleteFunc(units, func(unit string) bool { return unit == own })...)
}

// StopNext has systemd take back the start of an enabled box of which nothing is there, as between two tries of a start that
// fails, or just as one has failed, and reports whether there was one. A start by another boxrun in the service is ended, and waited for.
func StopNext(ctx context.Context, s *box.Store, name string) (bool, error) {
	word := EnabledAs(name)
	if word == "" || !Booted() || IsOf(s.Caller.Unit, name) {
		return false, nil
	}
	host, err := Dial(ctx)
	if err != nil {
		return false, err
	}
	defer host.Close()
	unit := instanceOf(word)
	if state, err := host.activeState(ctx, unit); err != nil || state != "activating" && state != "deactivating" {
		return false, fault.Wrap("asking systemd for "+unit, err)
	}
	return true, host.stop(ctx, unit).Wait(ctx)
}

// AwaitStarted waits until the service that systemd runs around Apptainer for a box counts as started, and reports whether the
// service runs then: somebody may have stopped it meanwhile. A box with quick services is ready before that. A box without such a
// service, and a systemd that does not answer, are not waited for.
func AwaitStarted(ctx context.Context, b *box.Box) bool {
	if b.Unit != Transient(b.Name) {
		return true
	}
	host, err := Dial(ctx)
	if err != nil {
		return true // the box is up all the same
	}
	defer host.Close()
	state := host.awaitPast(ctx, b.Unit, "activating")
	return state != "deactivating" && !ended(state)
}

// awaitPast waits until a service has left a state, and returns the next; "" where systemd does not answer. Until a service of a
// box has started, the command line is in its last sleep: if told to stop earlier, systemd would not know Apptainer's master yet,
// and would kill it.
func (h *Host) awaitPast(ctx context.Context, unit, passing string) string {
	for began := time.Now(); ; {
		state, err := h.activeState(ctx, unit)
		if err != nil {
			return ""
		}
		if state != passing || time.Since(began) > unitTimeout || process.Sleep(ctx, 5*time.Millisecond) != nil {
			return state
		}
	}
}

// wakeBus starts the system's bus if the bus does not run and its socket waits for a caller. Apptainer's master calls
// the bus at its end, to have systemd end the box's scope. Boxes are started after the bus, and so stopped before the
// bus. So systemd would hold back the start of the bus until the stop of the box's service is over, and this stop waits
// for the master.
func (h *Host) wakeBus(ctx context.Context) {
	bus, err := h.activeState(ctx, "dbus.service")
	if err != nil || bus == "active" {
		return
	}
	socket, err := h.activeState(ctx, "dbus.socket")
	if err != nil || socket != "active" {
		return
	}
	done := make(chan string, 1)
	if err := h.job(ctx, (*systemdbus.Conn).StartUnitContext, "dbus.service", "fail", done); err != nil {
		return // endMaster waits for the master, and kills a hanging master
	}
	ctx, cancel := context.WithTimeout(ctx, unitTimeout)
	defer cancel()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// ErrTakenDown says that the box to be stopped has ended while another boxrun works on it. The other boxrun does the
// rest.
var ErrTakenDown = errors.New("another boxrun takes the box down")

// LockToStop takes the lock of a box to take the box down. systemd runs boxrun to stop a service, also after the
// service's box has ended. Then LockToStop does not wait for another boxrun at work on the remains, because the other
// boxrun may be waiting for this service. The error is ErrTakenDown in this case.
func LockToStop(ctx context.Context, s *box.Store, name string) (unlock func(), err error) {
	if !IsOf(s.Caller.Unit, name) {
		return s.LockToStop(ctx, name)
	}
	if unlock, err := s.TryLockBox(ctx, name); !errors.Is(err, box.ErrBusy) {
		return unlock, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		for masterAlive(s, name) {
			if process.Sleep(ctx, 20*time.Millisecond) != nil {
				return
			}
		}
		cancel(ErrTakenDown)
	}()
	return s.LockToStop(ctx, name)
}

func masterAlive(s *box.Store, name string) bool {
	b, err := s.Load(name)
	return err == nil && b.Master.PID > 1 && b.Master.Alive()
}

// OthersBox reports whether systemd is stopping a service without b inside: the service was for an earlier box, already
// taken down, and b is the next box. If the service only supervises b, the service's main process is b's master, and
// OthersBox returns false. So it does for a service that was about to supervise b when the service was told to stop.
func OthersBox(c box.Caller, b *box.Box) bool {
	inside := c.Unit == b.Unit || c.MainPID == strconv.Itoa(b.Master.PID) || c.Halted
	return slices.Contains(unitsOf(b), c.Unit) && !inside
}

// DiedUnseen reports whether systemd stops the service of a box that died while the command line was in its last sleep.
// If the master is gone by the end of the sleep, systemd has no process to watch, and considers the work of the service
// done. The box has crashed all the same.
func DiedUnseen(c box.Caller, b *box.Box) bool {
	return c.Unit == Transient(b.Name) && b.Phase == box.Running && !b.Alive() && !c.Ended && c.MainPID == ""
}
