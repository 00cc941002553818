package guest

import (
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

	"boxrun/launcher/process"
	"boxrun/launcher/say"
)

// errNoSystemd is the error for a box without a systemd socket. The box's systemd has not come so far yet or has gone,
// or the box runs another init.
var errNoSystemd = errors.New("the box's systemd cannot be asked: it has no socket")

// AskTimeout limits each question to a box's systemd. A systemd frozen after an error of its own still has its socket.
const AskTimeout = 5 * time.Second

// Systemd is a connection to the systemd of a box, over the socket of the systemctl inside. The box makes up every
// answer: names are made fit to print, and every call ends with its ctx, or after AskTimeout.
type Systemd struct {
	conn *systemdbus.Conn
	stop context.CancelFunc
}

// Dial connects to the systemd of a box. pid is the PID of this systemd on the host. The error is errNoSystemd
// if the socket is missing, or nobody listens.
func Dial(ctx context.Context, pid int) (*Systemd, error) {
	socket, err := openInBox(pid, "run", "systemd", "private")
	if errors.Is(err, unix.ENOENT) {
		return nil, errNoSystemd
	}
	if err != nil {
		return nil, fmt.Errorf("opening the box's systemd socket: %w", err)
	}
	defer unix.Close(socket)

	ctx, cancel := context.WithTimeout(ctx, AskTimeout)
	defer cancel()
	// The connection has the context life. ctx limits the dialling alone.
	life, stop := context.WithCancel(context.Background())
	defer context.AfterFunc(ctx, stop)()
	conn, err := systemdbus.NewConnection(func() (*dbus.Conn, error) { return dialPrivate(life, pid, socket) })
	if ctx.Err() != nil {
		stop() // closes a half-made connection
		return nil, fmt.Errorf("connecting to the box's systemd: %w", ctx.Err())
	}
	if err == nil {
		return &Systemd{conn: conn, stop: stop}, nil
	}
	stop()
	if errors.Is(err, unix.ECONNREFUSED) {
		return nil, errNoSystemd
	}
	return nil, fmt.Errorf("connecting to the box's systemd: %w", err)
}

// dialPrivate connects like systemctl run by root: authenticated by uid, and without Hello, because no bus is behind
// the socket.
func dialPrivate(ctx context.Context, pid, socket int) (*dbus.Conn, error) {
	stream, err := connectInBox(pid, socket)
	if err != nil {
		return nil, err
	}
	conn, err := dbus.NewConn(stream, dbus.WithContext(ctx))
	if err != nil {
		return nil, errors.Join(err, stream.Close())
	}
	if err := conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Getuid()))}); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// openInBox opens a path below the root of the process pid, an element at a time, and follows no link: a link made
// inside the box would lead to the same name on the host. The descriptor (O_PATH) is good for /proc/self/fd alone.
func openInBox(pid int, elems ...string) (int, error) {
	fd, err := unix.Open(process.ProcFile(pid, "root"), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	for i, elem := range elems {
		if err != nil {
			return -1, err
		}
		flags := unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC
		if i < len(elems)-1 {
			flags |= unix.O_DIRECTORY
		}
		var next int
		next, err = unix.Openat(fd, elem, flags, 0)
		unix.Close(fd)
		fd = next
	}
	return fd, err
}

// runsSystemd reports whether the executable of a process is systemd. A systemd replaced by an upgrade counts, and so
// does systemd-shutdown, because systemd becomes systemd-shutdown at the end. For a process about to end, runsSystemd
// returns an error.
func runsSystemd(pid int) (bool, error) {
	exe, err := os.Readlink(process.ProcFile(pid, "exe"))
	return strings.HasPrefix(filepath.Base(exe), "systemd"), err
}

// Close ends the connection.
func (s *Systemd) Close() {
	s.conn.Close()
	s.stop()
}

// State returns what "systemctl is-system-running" prints: initializing, starting, running, degraded, maintenance or
// stopping.
func (s *Systemd) State(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, AskTimeout)
	defer cancel()
	p, err := s.conn.SystemStateContext(ctx)
	if err != nil {
		return "", fmt.Errorf("asking the box's systemd for its state: %w", err)
	}
	state, ok := p.Value.Value().(string)
	if !ok {
		return "", fmt.Errorf("asking the box's systemd for its state: unexpected answer %v", p.Value)
	}
	return say.Printable(state), nil
}

// Failed returns the failed units, sorted.
func (s *Systemd) Failed(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, AskTimeout)
	defer cancel()
	units, err := s.conn.ListUnitsFilteredContext(ctx, []string{"failed"})
	if err != nil {
		return nil, fmt.Errorf("asking the box's systemd for failed units: %w", err)
	}
	names := make([]string, len(units))
	for i, u := range units {
		names[i] = say.Printable(u.Name)
	}
	slices.Sort(names)
	return names, nil
}

// Waiting returns the unit systemd has been waiting for longest, and for how long: a stopping unit if stop is set,
// otherwise a starting unit. unit is "" if systemd waits for none.
func (s *Systemd) Waiting(ctx context.Context, stop bool) (unit string, since time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, AskTimeout)
	defer cancel()
	jobs, err := s.conn.ListJobsContext(ctx)
	if err != nil {
		return "", 0, fmt.Errorf("asking the box's systemd for its jobs: %w", err)
	}
	for _, j := range jobs {
		if j.Status != "running" || (j.JobType == "stop") != stop {
			continue // a job in another state waits for other jobs itself
		}
		if d := s.lasts(ctx, j.Unit, stop); unit == "" || d > since {
			unit, since = say.Printable(j.Unit), d
		}
	}
	return unit, since, nil
}

// lasts returns how long a unit has been starting, or stopping; 0 if unknown.
func (s *Systemd) lasts(ctx context.Context, unit string, stopping bool) time.Duration {
	property := "InactiveExitTimestampMonotonic"
	if stopping {
		property = "ActiveExitTimestampMonotonic"
	}
	p, err := s.conn.GetUnitPropertyContext(ctx, unit, property)
	if err != nil {
		return 0 // the job ended meanwhile
	}
	at, ok := p.Value.Value().(uint64) // µs of the monotonic clock; box and host share the clock
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil || !ok || at == 0 {
		return 0
	}
	return max(0, time.Duration(now.Nano())-time.Duration(at)*time.Microsecond)
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

// Active returns the state of the units, in the given order. "nginx" is nginx.service, as for systemctl. A missing unit
// has Load not-found.
func (s *Systemd) Active(ctx context.Context, units []string) ([]unitStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, AskTimeout)
	defer cancel()
	names := make([]string, len(units))
	for i, u := range units {
		names[i] = UnitName(u)
	}
	list, err := s.conn.ListUnitsByNamesContext(ctx, names)
	if err != nil {
		return nil, fmt.Errorf("asking the box's systemd for its units: %w", err)
	}
	if len(list) != len(names) {
		return nil, fmt.Errorf("asking the box's systemd for %d units: it answered with %d", len(names), len(list))
	}
	status := make([]unitStatus, len(list))
	for i, u := range list {
		status[i] = s.status(ctx, names[i], u)
	}
	return status, nil
}

// status completes u with the result of a failed service, and with the time an activating unit has taken so far.
func (s *Systemd) status(ctx context.Context, name string, u systemdbus.UnitStatus) unitStatus {
	status := unitStatus{
		Name: name, Load: say.Printable(u.LoadState), Active: say.Printable(u.ActiveState), Sub: say.Printable(u.SubState),
	}
	if status.Active == "activating" {
		status.Since = s.lasts(ctx, name, false)
	}
	if status.Active != "failed" || !strings.HasSuffix(name, ".service") {
		return status
	}
	if p, err := s.conn.GetServicePropertyContext(ctx, name, "Result"); err == nil { // Result is optional
		result, _ := p.Value.Value().(string)
		status.Result = say.Printable(result)
	}
	return status
}

// UnitName completes the name of a service, as systemctl does.
func UnitName(unit string) string {
	kinds := []string{".service", ".socket", ".target", ".mount", ".automount", ".timer", ".path", ".device", ".swap", ".slice", ".scope"}
	if slices.Contains(kinds, filepath.Ext(unit)) {
		return unit
	}
	return unit + ".service"
}
