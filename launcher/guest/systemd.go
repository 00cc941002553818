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

// errNoSystemd says that a box's systemd has no socket: it has not come so far yet, has gone, or the box runs another
// init.
var errNoSystemd = errors.New("the box's systemd cannot be asked: it has no socket")

// AskTimeout bounds each question to a box's systemd: one that froze after an error of its own still has its socket.
const AskTimeout = 5 * time.Second

// Systemd is a connection to the systemd of one box, over the socket that systemctl uses inside. All that comes over it
// was said by the box: names are made fit to print, and every call ends with its ctx, or after AskTimeout.
type Systemd struct {
	conn *systemdbus.Conn
	stop context.CancelFunc
}

// Dial connects to the systemd whose PID 1 is the process pid of the host; errNoSystemd where there is no
// socket, or nobody listens on it.
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
	// The context is the connection's, not ctx: that one bounds the dialling alone.
	life, stop := context.WithCancel(context.Background())
	defer context.AfterFunc(ctx, stop)()
	conn, err := systemdbus.NewConnection(func() (*dbus.Conn, error) { return dialPrivate(life, pid, socket) })
	if ctx.Err() != nil {
		stop() // closes what there is of the connection
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

// dialPrivate connects as systemctl does when it is root: authenticated by uid, and without Hello, as there is no bus
// behind the socket.
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

// openInBox opens the path below the root of the process pid, an element at a time and following no link: one made
// inside the box would lead to the same name on the host. The descriptor is good for /proc/self/fd alone (O_PATH).
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

// runsSystemd says whether the process is a systemd, by its executable: also one that was replaced by an upgrade, or
// systemd-shutdown, which systemd becomes at the end. An error where the process has begun to end.
func runsSystemd(pid int) (bool, error) {
	exe, err := os.Readlink(process.ProcFile(pid, "exe"))
	return strings.HasPrefix(filepath.Base(exe), "systemd"), err
}

// Close ends the connection.
func (s *Systemd) Close() {
	s.conn.Close()
	s.stop()
}

// State gives what "systemctl is-system-running" prints: initializing, starting, running, degraded, maintenance or
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

// Failed gives the units that failed, sorted.
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

// Waiting gives the unit that systemd has been waiting for longest, to stop where stop is set, or else to start; ""
// where it waits for none.
func (s *Systemd) Waiting(ctx context.Context, stop bool) (unit string, since time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, AskTimeout)
	defer cancel()
	jobs, err := s.conn.ListJobsContext(ctx)
	if err != nil {
		return "", 0, fmt.Errorf("asking the box's systemd for its jobs: %w", err)
	}
	for _, j := range jobs {
		if j.Status != "running" || (j.JobType == "stop") != stop {
			continue // one that is not running waits for other jobs itself
		}
		if d := s.lasts(ctx, j.Unit, stop); unit == "" || d > since {
			unit, since = say.Printable(j.Unit), d
		}
	}
	return unit, since, nil
}

// lasts gives for how long a unit has been starting, or stopping; 0 where that is not known.
func (s *Systemd) lasts(ctx context.Context, unit string, stopping bool) time.Duration {
	property := "InactiveExitTimestampMonotonic"
	if stopping {
		property = "ActiveExitTimestampMonotonic"
	}
	p, err := s.conn.GetUnitPropertyContext(ctx, unit, property)
	if err != nil {
		return 0 // the job ended meanwhile
	}
	at, ok := p.Value.Value().(uint64) // µs of the monotonic clock, which a box shares with the host
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil || !ok || at == 0 {
		return 0
	}
	return max(0, time.Duration(now.Nano())-time.Duration(at)*time.Microsecond)
}

// unitStatus is one unit as systemd sees it.
type unitStatus struct {
	Name   string
	Load   string        // loaded, masked, not-found, ...
	Active string        // active, activating, failed, ...
	Sub    string        // what that means for this kind of unit: running, start-pre, auto-restart, ...
	Result string        // of a failed service: exit-code, timeout, ...
	Since  time.Duration // of an activating unit: for how long
}

// Active gives the state of the units, in their order. "nginx" is nginx.service, as for systemctl; a unit that does
// not exist has Load not-found.
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
	if p, err := s.conn.GetServicePropertyContext(ctx, name, "Result"); err == nil { // without it the rest still says enough
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
