package guest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	systemdbus "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"boxrun/launcher/fault"
	"boxrun/launcher/list"
	"boxrun/launcher/process"
	"boxrun/launcher/say"
)

// errNoSystemd is the error for a box without a systemd socket. The box's systemd has not come so far yet or has gone,
// or the box runs another init.
var errNoSystemd = errors.New("the box's systemd cannot be asked: it has no socket")

// Systemd is a connection to the systemd of a box, over the socket of the systemctl inside. The box makes up every
// answer: names are made fit to print, and every question ends with its ctx, or after AskTimeout.
type Systemd struct{ conn Conn }

// Dial connects to the systemd of a box. pid is the PID of this systemd on the host. The error is errNoSystemd
// if the socket is missing, or nobody listens.
func Dial(ctx context.Context, pid int) (*Systemd, error) {
	socket, err := process.OpenInside(ctx, pid, "run", "systemd", "private")
	if errors.Is(err, unix.ENOENT) {
		return nil, errNoSystemd
	}
	if err != nil {
		return nil, fmt.Errorf("opening the box's systemd socket: %w", err)
	}
	defer unix.Close(socket)
	conn, err := Connect(ctx, func(life context.Context) (*systemdbus.Conn, error) {
		return OverOne(func() (*dbus.Conn, error) { return dialPrivate(life, pid, socket) })
	})
	if errors.Is(err, unix.ECONNREFUSED) {
		return nil, errNoSystemd
	}
	if err != nil {
		return nil, fmt.Errorf("connecting to the box's systemd: %w", err)
	}
	return &Systemd{conn}, nil
}

// dialPrivate connects like systemctl run by root, but for the authentication.
func dialPrivate(ctx context.Context, pid, socket int) (*dbus.Conn, error) {
	stream, err := connectInBox(pid, socket)
	if err != nil {
		return nil, err
	}
	conn, err := dbus.NewConn(newGuard(stream), dbus.WithContext(ctx))
	if err != nil {
		return nil, errors.Join(err, stream.Close())
	}
	return conn, nil
}

// runsSystemd reports whether the executable of a process is systemd. A systemd replaced by an upgrade counts, and so
// does systemd-shutdown, because systemd becomes systemd-shutdown at the end. For a process about to end, runsSystemd
// returns an error.
func runsSystemd(pid int) (bool, error) {
	exe, err := os.Readlink(process.ProcFile(pid, "exe"))
	return strings.HasPrefix(filepath.Base(exe), "systemd"), err
}

// Close ends the connection.
func (s *Systemd) Close() { s.conn.Close() }

// ask asks a question within AskTimeout. what names the wanted answer in the error.
func ask[T any](ctx context.Context, what string, question func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, AskTimeout)
	defer cancel()
	answer, err := question(ctx)
	if said := new(dbus.Error); errors.As(err, said) {
		err = errors.New(say.Printable(say.Cut(said.Error(), 200)))
	}
	if errors.Is(err, dbus.ErrClosed) {
		err = errNoAnswer
	}
	return answer, fault.Wrap("asking the box's systemd for "+what, err)
}

// errNoAnswer is the error for a peer that closes the connection, or answers what no systemd answers: see guard.
var errNoAnswer = errors.New("there is no well-formed answer")

// state returns what "systemctl is-system-running" prints: initializing, starting, running, degraded, maintenance or
// stopping.
func (s *Systemd) state(ctx context.Context) (string, error) {
	p, err := ask(ctx, "its state", s.conn.SystemStateContext)
	if err != nil {
		return "", err
	}
	state, ok := p.Value.Value().(string)
	if !ok {
		return "", fmt.Errorf("asking the box's systemd for its state: unexpected answer %v", p.Value)
	}
	return say.Printable(state), nil
}

// failed returns the failed units, sorted.
func (s *Systemd) failed(ctx context.Context) ([]string, error) {
	units, err := ask(ctx, "failed units", func(ctx context.Context) ([]systemdbus.UnitStatus, error) {
		return s.conn.ListUnitsFilteredContext(ctx, []string{"failed"})
	})
	if err != nil {
		return nil, err
	}
	names := list.Map(units, func(u systemdbus.UnitStatus) string { return say.Printable(u.Name) })
	slices.Sort(names)
	return names, nil
}

// The properties of a unit with the time its start, or its stop, began.
const (
	startBegan = "InactiveExitTimestampMonotonic"
	stopBegan  = "ActiveExitTimestampMonotonic"
)

// starting returns the unit that has been starting for longest, and for how long. unit is "" for none.
func (s *Systemd) starting(ctx context.Context) (unit string, took time.Duration, err error) {
	return s.longest(ctx, startBegan, func(job string) bool { return job != "stop" })
}

// stopping returns the unit that has been stopping for longest, and for how long. unit is "" for none.
func (s *Systemd) stopping(ctx context.Context) (unit string, took time.Duration, err error) {
	return s.longest(ctx, stopBegan, func(job string) bool { return job == "stop" })
}

// longest returns the unit whose job of a wanted type has been running for longest. began is the property with the
// time of the job's begin.
func (s *Systemd) longest(
	ctx context.Context, began string, wanted func(job string) bool,
) (unit string, took time.Duration, err error) {
	jobs, err := ask(ctx, "its jobs", s.conn.ListJobsContext)
	if err != nil {
		return "", 0, err
	}
	for _, j := range jobs {
		if j.Status != "running" || !wanted(j.JobType) {
			continue // a job in another state waits for other jobs itself
		}
		if d := s.since(ctx, j.Unit, began); unit == "" || d > took {
			unit, took = say.Printable(j.Unit), d
		}
	}
	return unit, took, nil
}

// since returns the time since the moment in a unit's property; 0 if unknown.
func (s *Systemd) since(ctx context.Context, unit, name string) time.Duration {
	at := property[uint64](ctx, s.conn.GetUnitPropertyContext, unit, name) // µs of the clock that box and host share
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil || at == 0 {
		return 0
	}
	return max(0, time.Duration(now.Nano())-time.Duration(at)*time.Microsecond)
}

// BootTimes are moments of the boot of a box's systemd, as of CLOCK_MONOTONIC; 0 for moments unknown.
type BootTimes struct{ Began, GeneratorsBegan, GeneratorsDone, UnitsLoaded, Finished time.Duration }

// BootTimes returns when the box's systemd booted.
func (s *Systemd) BootTimes(ctx context.Context) (t BootTimes, err error) {
	for _, m := range []struct {
		name string
		at   *time.Duration
	}{
		{"Userspace", &t.Began}, {"GeneratorsStart", &t.GeneratorsBegan}, {"GeneratorsFinish", &t.GeneratorsDone},
		{"UnitsLoadFinish", &t.UnitsLoaded}, {"Finish", &t.Finished},
	} {
		if *m.at, err = s.managerTime(ctx, m.name+"TimestampMonotonic"); err != nil {
			return t, err
		}
	}
	return t, nil
}

// managerTime returns a property with a moment; 0 for a moment that systemd does not tell. The question has no context of
// its own: Close ends it, and ask does not wait for it.
func (s *Systemd) managerTime(ctx context.Context, name string) (time.Duration, error) {
	return ask(ctx, name, func(ctx context.Context) (time.Duration, error) {
		answered := make(chan string, 1)
		go func() {
			text, _ := s.conn.GetManagerProperty(name)
			answered <- text
		}()
		select {
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case text := <-answered: // "@t 1234"
			microseconds, _ := strconv.ParseInt(strings.TrimPrefix(text, "@t "), 10, 64)
			return time.Duration(microseconds) * time.Microsecond, nil
		}
	})
}

// getProperty asks for a property of a unit, such as systemdbus.Conn.GetUnitPropertyContext.
type getProperty func(ctx context.Context, unit, name string) (*systemdbus.Property, error)

// property returns a property that get asks for; the zero value if there is none, as after the end of the unit's job.
func property[T any](ctx context.Context, get getProperty, unit, name string) (value T) {
	p, err := ask(ctx, name, func(ctx context.Context) (*systemdbus.Property, error) { return get(ctx, unit, name) })
	if err == nil {
		value, _ = p.Value.Value().(T)
	}
	return value
}

// unitStatus is the state of a unit in systemd's words.
type unitStatus struct {
	Name   string
	Load   string        // loaded, masked, not-found, ...
	Active string        // active, activating, failed, ...
	Sub    string        // the same in detail, by the kind of unit: running, start-pre, auto-restart, ...
	Result string        // of a failed service: exit-code, timeout, ...
	Since  time.Duration // of an activating unit: for how long
}

// active returns the state of the units, in the given order. "nginx" is nginx.service, as for systemctl. A missing unit
// has Load not-found.
func (s *Systemd) active(ctx context.Context, units []string) ([]unitStatus, error) {
	names := list.Map(units, UnitName)
	found, err := ask(ctx, "its units", func(ctx context.Context) ([]systemdbus.UnitStatus, error) {
		return s.conn.ListUnitsByNamesContext(ctx, names)
	})
	if err != nil {
		return nil, err
	}
	if len(found) != len(names) {
		return nil, fmt.Errorf("asking the box's systemd for %d units: it answered with %d", len(names), len(found))
	}
	status := make([]unitStatus, len(found))
	for i, u := range found {
		status[i] = s.status(ctx, names[i], u)
	}
	return status, nil
}

// status completes u with the result of a failed service, and with the time an activating unit has taken so far.
func (s *Systemd) status(ctx context.Context, name string, u systemdbus.UnitStatus) unitStatus {
	status := unitStatus{
		Name: name, Load: say.Printable(u.LoadState), Active: say.Printable(u.ActiveState), Sub: say.Printable(u.SubState),
	}
	switch {
	case status.Active == "activating":
		status.Since = s.since(ctx, name, startBegan)
	case status.Active == "failed" && strings.HasSuffix(name, ".service"):
		status.Result = say.Printable(property[string](ctx, s.conn.GetServicePropertyContext, name, "Result"))
	}
	return status
}

// RestartIfActive starts a unit of a box anew if the unit is active, and does not wait for the new start. pid is the PID of
// the box's init on the host. A box without a systemd to ask has no such unit.
func RestartIfActive(ctx context.Context, pid int, unit string) error {
	s, err := Dial(ctx, pid)
	if errors.Is(err, errNoSystemd) {
		return nil
	}
	if err != nil {
		return err
	}
	defer s.Close()
	status, err := s.active(ctx, []string{unit})
	if err != nil || status[0].Active != "active" {
		return err
	}
	_, err = ask(ctx, "a new start of "+unit, func(ctx context.Context) (int, error) {
		return s.conn.TryRestartUnitContext(ctx, unit, "replace", nil)
	})
	return err
}

// UnitName completes the name of a service, as systemctl does.
func UnitName(unit string) string {
	kinds := []string{".service", ".socket", ".target", ".mount", ".automount", ".timer", ".path", ".device", ".swap",
		".slice", ".scope"}
	if slices.Contains(kinds, filepath.Ext(unit)) {
		return unit
	}
	return unit + ".service"
}

// Unit is a unit of a box's systemd.
type Unit struct {
	Name        string
	Description string
}

// Units returns the units with the load state "loaded", sorted by name. systemd also lists units that do not exist,
// known only from dependencies of others.
func (s *Systemd) Units(ctx context.Context) ([]Unit, error) {
	found, err := ask(ctx, "its units", s.conn.ListUnitsContext)
	if err != nil {
		return nil, err
	}
	var units []Unit
	for _, u := range found {
		if u.LoadState == "loaded" {
			units = append(units, Unit{say.Printable(u.Name), say.Printable(u.Description)})
		}
	}
	slices.SortFunc(units, func(a, b Unit) int { return cmp.Compare(a.Name, b.Name) })
	return units, nil
}

// noSystemd is the state of a box without a systemd.
const noSystemd = "none"
