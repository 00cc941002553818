package units

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"syscall"
	"time"

	systemdbus "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"

	"boxrun/launcher/fault"
	"boxrun/launcher/guest"
	"boxrun/launcher/process"
)

// Host is a connection to the host's systemd, over the socket of root's systemctl. No bus daemon needs to be up.
type Host struct{ guest.Conn }

// Dial connects to the host's systemd. Dial waits for a systemd that executes itself anew or reads its units again.
func Dial(ctx context.Context) (*Host, error) {
	for began := time.Now(); ; {
		conn, err := guest.Connect(ctx, dialPrivate)
		if err == nil {
			return &Host{conn}, nil
		}
		if time.Since(began) > absence(err) || process.Sleep(ctx, 10*time.Millisecond) != nil {
			return nil, fmt.Errorf("connecting to the host's systemd: %w", err)
		}
	}
}

// dialPrivate connects like root's systemctl.
func dialPrivate(life context.Context) (*systemdbus.Conn, error) {
	return guest.OverOne(func() (*dbus.Conn, error) {
		return dbus.Dial("unix:path=/run/systemd/private", dbus.WithContext(life))
	})
}

// hostTimeout limits each question to the host's systemd. A systemd that reads its units again with slow generators
// answers nobody meanwhile; a hanging systemd may still have taken the connection.
const hostTimeout = 30 * time.Second

// absence returns how long a systemd may stay away that could not be connected to with err. A systemd that executes itself
// anew takes the old socket along, and replaces the socket's file when its units are read.
func absence(err error) time.Duration {
	for _, away := range []error{syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE, io.EOF, context.DeadlineExceeded} {
		if errors.Is(err, away) {
			return hostTimeout - guest.AskTimeout
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return 200 * time.Millisecond
	}
	return 0
}

// Ask asks a question within hostTimeout.
func (h *Host) Ask(ctx context.Context, question func(context.Context) error) error {
	return h.askWithin(ctx, hostTimeout, question)
}

// askWithin asks a question, and asks again over a new connection where systemd has executed itself anew meanwhile. A
// question may thus be heard twice.
func (h *Host) askWithin(ctx context.Context, timeout time.Duration, question func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		err := question(ctx)
		if err == nil || ctx.Err() != nil || h.Connected() {
			return err
		}
		next, err := Dial(ctx)
		if err != nil {
			return err
		}
		h.Close()
		h.Conn = next.Conn
	}
}

// reloadTimeout is how long systemd may take to read all units again, with its generators. systemctl has the same
// limit.
const reloadTimeout = 90 * time.Second

// reload makes systemd read its units again.
func (h *Host) reload(ctx context.Context) error {
	return fault.Wrap("having systemd read its units again",
		h.askWithin(ctx, reloadTimeout, func(ctx context.Context) error { return h.ReloadContext(ctx) }))
}

// toJob is a method of a connection that makes systemd start, restart or stop a unit, such as StartUnitContext.
type toJob func(c *systemdbus.Conn, ctx context.Context, unit, mode string, done chan<- string) (int, error)

// job asks systemd for a job on a unit. mode is what to do about other jobs on the unit: "replace" or "fail". done
// receives the result of the job; nil if nobody waits for the result.
func (h *Host) job(ctx context.Context, to toJob, unit, mode string, done chan<- string) error {
	return h.Ask(ctx, func(ctx context.Context) error {
		_, err := to(h.Conn.Conn, ctx, unit, mode, done)
		return err
	})
}

// start asks systemd to start a service, and does not wait for the start.
func (h *Host) start(ctx context.Context, unit string) error {
	return h.job(ctx, (*systemdbus.Conn).StartUnitContext, unit, "replace", nil)
}

// ErrStopped says that a stop has taken back the start of a service.
var ErrStopped = fmt.Errorf("its service was stopped: %w", fault.ErrNotStarted)

// errQueued says that other jobs have gone before a start for longer than hostTimeout.
var errQueued = fmt.Errorf("its start has waited for other units for %v", hostTimeout)

// begin asks systemd to start a service, and returns when the start has begun, or had nothing to do. Before, a stop of the
// service would take back the job, and run nothing (ErrStopped). A systemd that has executed itself anew tells nobody of a
// job that has gone: begin takes the start for begun.
func (h *Host) begin(ctx context.Context, unit string) error {
	done := make(chan string, 1)
	if err := h.job(ctx, (*systemdbus.Conn).StartUnitContext, unit, "replace", done); err != nil {
		return err
	}
	asked := h.Conn.Conn
	ctx, cancel := context.WithTimeoutCause(ctx, hostTimeout, errQueued)
	defer cancel()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case result := <-done:
			if result == "canceled" {
				return ErrStopped
			}
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-look.C:
			state, err := h.jobState(ctx, unit)
			if err == nil && (state == "running" || state == "" && h.Conn.Conn != asked) {
				return nil
			}
		}
	}
}

// jobState returns the state of the job of a unit: waiting for its turn, or running; "" for no job.
func (h *Host) jobState(ctx context.Context, unit string) (state string, err error) {
	err = h.Ask(ctx, func(ctx context.Context) error {
		jobs, err := h.ListJobsContext(ctx)
		if i := slices.IndexFunc(jobs, func(j systemdbus.JobStatus) bool { return j.Unit == unit }); i >= 0 {
			state = jobs[i].Status
		}
		return err
	})
	return state, err
}

// disable makes systemd remove the links that start the units.
func (h *Host) disable(ctx context.Context, units []string) error {
	return h.Ask(ctx, func(ctx context.Context) error {
		_, err := h.DisableUnitFilesContext(ctx, units, false)
		return err
	})
}

// forgetFailures makes systemd list no failed service that matches a pattern, such as a service whose file is gone.
func (h *Host) forgetFailures(ctx context.Context, patterns ...string) error {
	return h.Ask(ctx, func(ctx context.Context) error {
		failed, err := h.ListUnitsByPatternsContext(ctx, []string{"failed"}, patterns)
		errs := []error{err}
		for _, unit := range failed {
			errs = append(errs, ignoreNoUnit(h.ResetFailedUnitContext(ctx, unit.Name)))
		}
		return errors.Join(errs...)
	})
}

// activeState returns the state of a unit, such as "active"; "inactive" for a missing unit.
func (h *Host) activeState(ctx context.Context, unit string) (string, error) {
	return h.unitProperty(ctx, unit, "ActiveState")
}

// unitProperty returns a property that units of every type have, of the type string.
func (h *Host) unitProperty(ctx context.Context, unit, name string) (value string, err error) {
	err = h.Ask(ctx, func(ctx context.Context) error {
		p, err := h.GetUnitPropertyContext(ctx, unit, name)
		if err == nil {
			value, _ = p.Value.Value().(string)
		}
		return err
	})
	return value, err
}

// StartedAt returns when systemd started the process of a service, as of CLOCK_MONOTONIC; 0 where systemd does not say within
// a second. systemd says so when the command of the start has ended, which an up need not wait for.
func StartedAt(ctx context.Context, service string) time.Duration {
	h, err := Dial(ctx)
	if err != nil {
		return 0
	}
	defer h.Close()
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	for {
		var microseconds uint64
		err := h.Ask(ctx, func(ctx context.Context) error {
			p, err := h.GetUnitTypePropertyContext(ctx, service, "Service", "ExecMainStartTimestampMonotonic")
			if err == nil {
				microseconds, _ = p.Value.Value().(uint64)
			}
			return err
		})
		if err != nil || microseconds > 0 || process.Sleep(ctx, 10*time.Millisecond) != nil {
			return time.Duration(microseconds) * time.Microsecond
		}
	}
}

// unitTimeout is how long systemd may take to end a service without processes.
const unitTimeout = 5 * time.Second

func isBusError(err error, name string) bool {
	var bus dbus.Error
	return errors.As(err, &bus) && bus.Name == "org.freedesktop.systemd1."+name
}

func ignoreNoUnit(err error) error {
	if isBusError(err, "NoSuchUnit") || isBusError(err, "NoSuchProcess") {
		return nil
	}
	return err
}
