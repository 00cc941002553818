package guest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"boxrun/launcher/confine"
	"boxrun/launcher/fault"
	"boxrun/launcher/process"
	"boxrun/launcher/say"
)

// KilledProblem returns the error ErrKilled for why, errSlow or a deaf init.
func KilledProblem(name string, timeout time.Duration, why error) error {
	if init := (deaf{}); errors.As(why, &init) {
		return &fault.Problem{Kind: fault.ErrKilled, Text: name + " was killed: " + init.Error(),
			Hint: "the image's /sbin/init has to stop on " + init.signal}
	}
	return &fault.Problem{Kind: fault.ErrKilled,
		Text: fmt.Sprintf("%s did not stop within %s and was killed", name, timeout),
		Hint: "raise systemd.stop_timeout, or look at what hangs with \"boxrun logs\" before the next down"}
}

// times are the times that a stop takes from nowhere else. Tests use shorter times.
type times struct {
	handler time.Duration // for a starting init to be ready for the halt signal
	fork    time.Duration // longer than a fork takes on a busy machine
	cleanup time.Duration // for Apptainer's master to clean up
	quiet   time.Duration // before the live line tells of the wait, and between two lines
	nudge   time.Duration // between two nudges
	again   time.Duration // before an init that may have missed it is told again
	empty   time.Duration // an init other than systemd has nothing left to do after this time without a child
}

// usualTimes returns the times for real boxes. An idle box stops in less than quiet. CNI gets 5 s for all of the clean
// up (pkg/network).
func usualTimes() times {
	return times{handler: 10 * time.Second, fork: time.Second, cleanup: 15 * time.Second,
		quiet: 300 * time.Millisecond, nudge: 50 * time.Millisecond, again: time.Second, empty: 2 * time.Second}
}

// stopping is the stop of one box, with the arguments of Stop.
type stopping struct {
	init, master process.Process
	cgroup       string
	timeout      time.Duration
	live         *say.Live
	times
}

// Stop stops a box. It tells init to go, waits for at most timeout, and then kills the box's whole cgroup. After
// this Stop waits until Apptainer's master has taken down the box's network and removed its own record, and kills a
// hanging master. Neither init nor master needs to run any more.
//
// killed is the reason for killing the box, errSlow or deaf; nil if the box stopped. When ctx ends, Stop returns
// the cause; an init already told to go still goes.
//
// cgroup is the box's own cgroup, from CgroupOf; "" for none. After a return without error the cgroup is gone. live
// shows the current wait, as in "waiting for nginx.service to stop (3s)", and "" at the end.
func Stop(
	ctx context.Context, init, master process.Process, cgroup string, timeout time.Duration, live func(string),
) (killed, err error) {
	return stopping{init, master, cgroup, timeout, say.NewLive(live), usualTimes()}.run(ctx)
}

func (s stopping) run(ctx context.Context) (killed, err error) {
	defer s.live.End()
	killed, err = s.stopInit(ctx)
	if err != nil {
		return killed, err
	}
	if err := s.endMaster(ctx); err != nil {
		return killed, err
	}
	return killed, process.RemoveCgroup(ctx, s.cgroup)
}

// stopInit halts the box, and kills a box still running after the timeout, or with a deaf init.
func (s stopping) stopInit(ctx context.Context) (killed, err error) {
	soft, cancel := context.WithTimeoutCause(ctx, s.timeout, errSlow)
	defer cancel()
	go s.narrate(soft) // a look into the box may take for ever, and delays nothing
	go s.nudgeInit(soft)
	err = s.halt(soft)
	cancel()
	if ctx.Err() != nil || !errors.Is(err, errSlow) && !errors.As(err, &deaf{}) {
		return nil, err
	}
	s.live.Say("killing the box")
	return err, killBox(ctx, s.init, s.cgroup)
}

// errSlow is the reason for killing a box that takes too long.
var errSlow = errors.New("it did not stop in time")

// deaf is the reason for killing a box whose init has no handler for the signal of that name.
type deaf struct{ signal string }

func (d deaf) Error() string {
	return "its init takes no notice of " + d.signal + ", which tells a box to stop"
}

// halt tells init to stop, and waits until init is gone or ctx ends. A starting init has no handler yet and would never
// see the signal, so halt sends the signal when there is a handler. An init that has no handler for long, such as a
// shell script, never will: halt returns deaf, because there is nothing to wait for. When ctx ends, halt returns the
// cause.
func (s stopping) halt(ctx context.Context) error {
	if err := s.awaitImage(ctx); err != nil {
		return err
	}
	h := haltingOf(s.init)
	if err := s.awaitHandler(ctx, h); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	heard := h.hears == nil || h.hears(ctx, s.init.PID)
	if err := s.tell(ctx, h); err != nil && h.hears == nil {
		return err
	} else if err != nil || !heard {
		go s.tellAgain(ctx, h)
	}
	if h.signal != process.HaltSignal {
		go s.endEmpty(ctx)
	}
	return s.init.Wait(ctx)
}

// awaitImage waits until init is the image's own, or gone. boxrun as the box's first process has a handler for each signal, by
// the runtime of Go, and drops the signal. The error is deaf after the time for a handler.
func (s stopping) awaitImage(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.handler, deaf{"SIGRTMIN+3"})
	defer cancel()
	return confine.AwaitImage(ctx, s.init)
}

// awaitHandler waits until init has a handler for the halt signal, or reads the signal otherwise, or is gone. The error
// is deaf after the time for a handler.
func (s stopping) awaitHandler(ctx context.Context, h halting) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.handler, deaf{h.name})
	defer cancel()
	began := time.Now()
	for without := began; s.init.Alive(); { // the last time init was seen without a handler
		yes, brief := s.init.Handles(h.signal)
		if yes && (!brief || time.Since(without) > s.fork) {
			return nil
		}
		if !yes {
			without = time.Now()
		}
		if err := process.Sleep(ctx, process.Pause(began, 2*time.Millisecond, 50*time.Millisecond)); err != nil {
			return err
		}
	}
	return nil
}

// shutdownExe is the name of the program that systemd becomes when all units have stopped.
const shutdownExe = "systemd-shutdown"

// nudgeInit makes systemd-shutdown, which systemd becomes at the end, look again whether the remaining processes have
// ended. The kernel does not tell it about the end of processes from outside, such as the journalctl of "boxrun logs
// -f", and its next look would come after ten seconds.
func (s stopping) nudgeInit(ctx context.Context) {
	for process.Sleep(ctx, s.nudge) == nil {
		if exeName(s.init.PID) == shutdownExe {
			_ = s.init.Signal(unix.SIGCHLD) // an error means a finished init: all the better
		}
	}
}

// narrate shows the unit the box's systemd waits for, until ctx ends.
func (s stopping) narrate(ctx context.Context) {
	began := time.Now()
	var systemd *Systemd
	for process.Sleep(ctx, s.quiet) == nil {
		if systemd == nil {
			systemd, _ = Dial(ctx, s.init.PID) // without a systemd the line says less
		}
		if line := stopLine(ctx, systemd, time.Since(began)); ctx.Err() == nil {
			s.live.Say(line)
		}
	}
	if systemd != nil {
		systemd.Close()
	}
}

func stopLine(ctx context.Context, s *Systemd, took time.Duration) string {
	if s != nil {
		if unit, since, err := s.stopping(ctx); err == nil && unit != "" {
			return "waiting for " + unit + " to stop" + say.Seconds(since)
		}
	}
	return "waiting for the box to stop" + say.Seconds(took)
}

// Kill kills a box that another process stops, as Stop does after its timeout. killed is the reason, errSlow.
func Kill(ctx context.Context, init process.Process, cgroup string) (killed, err error) {
	return errSlow, killBox(ctx, init, cgroup)
}

// killBox kills everything in the box. Killing init is enough, because init is PID 1 of the box's PID namespace.
// Killing the cgroup does not have to wait until init is scheduled. The cgroup is left alone if the kernel cannot kill
// it (before Linux 5.14), or if it is not certainly the box's.
func killBox(ctx context.Context, init process.Process, cgroup string) error {
	ctx, cancel := context.WithTimeout(ctx, process.KillTimeout)
	defer cancel()
	if err := process.KillCgroup(init, cgroup); err != nil {
		return err
	}
	if err := init.Kill(); err != nil {
		return err
	}
	return fault.Wrap(fmt.Sprintf("waiting for the end of killed process %d", init.PID), init.Wait(ctx))
}

// endMaster waits for Apptainer's master, and kills it if it hangs. The master hangs on a host without a system bus,
// because it wants to tell systemd about the end of the scope. The box has stopped by then and loses nothing.
func (s stopping) endMaster(ctx context.Context) error {
	soft, cancel := context.WithTimeout(ctx, s.cleanup)
	defer cancel()
	defer time.AfterFunc(s.quiet, func() { s.live.Say("waiting for Apptainer to clean up") }).Stop()
	if err := s.master.Wait(soft); err == nil || ctx.Err() != nil {
		return err
	}
	if err := s.master.Kill(); err != nil {
		return err
	}
	hard, cancel := context.WithTimeout(ctx, process.KillTimeout)
	defer cancel()
	return s.master.Wait(hard)
}
