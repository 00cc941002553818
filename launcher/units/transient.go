package units

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	systemdbus "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"boxrun/launcher/apptainer"
	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/launcher/guest"
	"boxrun/launcher/process"
	"boxrun/profiles"
)

// Apptainer's master stays in the cgroup of whoever ran the command line: in a person's session it is killed
// at logout, and the box with it, its databases open. So on a host that systemd runs it is systemd that runs the
// command line, as a service that is made for it.
//
// The service is of type forking, without a PIDFile: what --pid-file writes is the box's init, which Apptainer has moved
// to a scope of its own by then, and what systemd has to watch is the master. That is the only process of the service
// whose parent is systemd once the command line has ended, as helpers for images are children of the master; so systemd
// finds it by itself, whether or not boxrun lives to see it.

// Host is a connection to the systemd that runs the host, over the socket that systemctl uses as root: no bus
// daemon need be up.
type Host struct {
	Conn *systemdbus.Conn
	stop context.CancelFunc
}

// Dial connects to the host's systemd, within AskTimeout.
func Dial(ctx context.Context) (*Host, error) {
	ctx, cancel := context.WithTimeout(ctx, guest.AskTimeout)
	defer cancel()
	life, stop := context.WithCancel(context.Background())
	defer context.AfterFunc(ctx, stop)()
	conn, err := systemdbus.NewSystemdConnectionContext(life)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		stop() // closes what there is of the connection
		return nil, fmt.Errorf("connecting to the host's systemd: %w", err)
	}
	return &Host{Conn: conn, stop: stop}, nil
}

// Close ends the connection.
func (h *Host) Close() {
	h.Conn.Close()
	h.stop()
}

// Ask asks one question within AskTimeout: a systemd that hangs may still have taken the connection.
func (h *Host) Ask(ctx context.Context, question func(context.Context) error) error {
	return within(ctx, guest.AskTimeout, question)
}

func within(ctx context.Context, limit time.Duration, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return do(ctx)
}

// reloadTimeout is how long systemd may take to read all units again, with its generators; that of systemctl.
const reloadTimeout = 90 * time.Second

// reload has systemd read its units again.
func (h *Host) reload(ctx context.Context) error {
	return fault.Wrap("having systemd read its units again", within(ctx, reloadTimeout, h.Conn.ReloadContext))
}

// startUnit asks systemd to start a service, and does not wait for it.
func (h *Host) startUnit(ctx context.Context, unit string) error {
	return h.Ask(ctx, func(ctx context.Context) error {
		_, err := h.Conn.StartUnitContext(ctx, unit, "replace", nil)
		return err
	})
}

// disableUnits has systemd no longer start units with what wants them.
func (h *Host) disableUnits(ctx context.Context, units []string) error {
	return h.Ask(ctx, func(ctx context.Context) error {
		_, err := h.Conn.DisableUnitFilesContext(ctx, units, false)
		return err
	})
}

// forgetFailures has systemd list no service that has failed and matches one of the patterns, such as one whose file is gone.
func (h *Host) forgetFailures(ctx context.Context, patterns ...string) error {
	return h.Ask(ctx, func(ctx context.Context) error {
		failed, err := h.Conn.ListUnitsByPatternsContext(ctx, []string{"failed"}, patterns)
		errs := []error{err}
		for _, unit := range failed {
			errs = append(errs, ignoreNoUnit(h.Conn.ResetFailedUnitContext(ctx, unit.Name)))
		}
		return errors.Join(errs...)
	})
}

// Run has the host's systemd run argv, the command c, as the box's transient service. argv[0] is a path.
func Run(ctx context.Context, s *box.Store, b *box.Box, c *apptainer.Command, argv []string) error {
	down, err := DownCommand(s, b.Name)
	if err != nil {
		return err
	}
	host, err := Dial(ctx)
	if err != nil {
		return err
	}
	stderr, err := memoryFile("stderr of apptainer")
	if err != nil {
		host.Close()
		return err
	}
	properties := append(TransientProperties(b, argv, down, apptainer.Environment(s.Home)),
		property("StandardErrorFileDescriptor", dbus.UnixFD(stderr.Fd())))
	done := make(chan string, 1)
	if err := host.startTransient(ctx, TransientUnit(c.Name), properties, done); err != nil {
		host.Close()
		return errors.Join(err, stderr.Close())
	}
	left, leave := context.WithCancel(context.Background())
	c.Leave = leave
	go func() {
		defer leave()
		follow(ctx, left, s, c, host, stderr, done)
	}()
	return nil
}

// memoryFile gives a file without a name. The service keeps it for what its later commands say, who with a pipe would be
// killed by SIGPIPE, as nobody reads any more.
func memoryFile(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// DownCommand gives what systemd runs to stop a box.
func DownCommand(s *box.Store, name string) ([]string, error) {
	exe, err := unitPath(s.Exe)
	if s.Dir == box.StateDir {
		return []string{exe, "down", name}, err
	}
	return []string{exe, "--state-dir", s.Dir, "down", name}, err
}

func property(name string, value any) systemdbus.Property {
	return systemdbus.Property{Name: name, Value: dbus.MakeVariant(value)}
}

// execCommand is systemd's a(sasb): executable, argument vector, whether a bad end is to be ignored.
type execCommand struct {
	Path   string
	Args   []string
	Ignore bool
}

// execProperty gives a command line for systemd, which would put variables in the place of $WORD.
func execProperty(name string, argv []string) systemdbus.Property {
	args := make([]string, len(argv))
	for i, arg := range argv {
		args[i] = strings.ReplaceAll(arg, "$", "$$")
	}
	return property(name, []execCommand{{Path: argv[0], Args: args}})
}

// TransientProperties gives the box's service: what boxrun@.service says too, and what is its own. See there for the
// signal. It goes as soon as it has ended, well or not, so that the next up finds its name free.
func TransientProperties(b *box.Box, start, stop, env []string) []systemdbus.Property {
	p := b.Profile
	properties := []systemdbus.Property{
		systemdbus.PropDescription("box " + b.Name + " of boxrun"),
		systemdbus.PropType("forking"),
		systemdbus.PropAfter(append(startedBefore(), dependencyUnits(p)...)...),
		execProperty("ExecStart", start),
		execProperty("ExecStop", stop),
		property("Environment", env),
		property("UnsetEnvironment", ofTheService()),
		property("StandardOutput", "null"),
		property("KillMode", "mixed"),
		property("KillSignal", int32(process.HaltSignal)),
		property("TimeoutStartUSec", microseconds(BootTimeout(p)+startGrace)),
		property("TimeoutStopUSec", microseconds(p.Systemd.StopTimeout+stopGrace)),
		property("CollectMode", "inactive-or-failed"),
	}
	if paths := mountedPaths(p); len(paths) > 0 {
		properties = append(properties, systemdbus.PropRequiresMountsFor(paths...))
	}
	return properties
}

// ofTheService gives the variables by which systemd tells a service about itself (systemd.exec(5)). The systemd of the box would
// take them for its own: the host's cgroup to watch for memory pressure is not there.
func ofTheService() []string {
	return []string{"INVOCATION_ID", "JOURNAL_STREAM", "MEMORY_PRESSURE_WATCH", "MEMORY_PRESSURE_WRITE", "SYSTEMD_EXEC_PID"}
}

// SystemdRun gives the command that starts a transient service of these properties. The service's own command line stands
// on a line of its own.
func SystemdRun(unit string, properties []systemdbus.Property) string {
	words := []string{"systemd-run", "-q", "--unit=" + unit}
	var start []string
	for _, p := range properties {
		if p.Name == "ExecStart" {
			start = commandOf(p)
			continue
		}
		words = append(words, propertyWords(p)...)
	}
	return files.QuoteAll(words) + " \\\n  " + files.QuoteAll(start)
}

// commandOf gives the argument vector of what execProperty made.
func commandOf(p systemdbus.Property) []string {
	commands, _ := p.Value.Value().([]execCommand)
	return commands[0].Args
}

// propertyWords gives what systemd-run is told of a property.
func propertyWords(p systemdbus.Property) []string {
	switch value := p.Value.Value().(type) {
	case []execCommand:
		return []string{"-p", p.Name + "=" + unitWords(commandOf(p))}
	case []string:
		if p.Name != "Environment" {
			return []string{"-p", p.Name + "=" + unitWords(value)}
		}
		var words []string
		for _, variable := range value {
			words = append(words, "-E", variable)
		}
		return words
	case uint64:
		return []string{"-p", strings.TrimSuffix(p.Name, "USec") + "Sec=" + wholeSeconds(time.Duration(value)*time.Microsecond)}
	default:
		return []string{"-p", fmt.Sprintf("%s=%v", p.Name, value)}
	}
}

// unitWords gives words as systemd takes a list of them apart.
func unitWords(words []string) string {
	list := make([]string, len(words))
	for i, word := range words {
		list[i] = word
		if strings.ContainsAny(word, " \t\"'\\") {
			list[i] = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(word) + `"`
		}
	}
	return strings.Join(list, " ")
}

func microseconds(d time.Duration) uint64 { return uint64(d / time.Microsecond) }

// startTransient starts a transient service; done gets the result of the job. One of that name that is left, of a box
// whose state was lost, is stopped first.
func (h *Host) startTransient(ctx context.Context, unit string, properties []systemdbus.Property, done chan<- string) error {
	for began := time.Now(); ; {
		err := h.Ask(ctx, func(ctx context.Context) error {
			_, err := h.Conn.StartTransientUnitContext(ctx, unit, "fail", properties, done)
			return err
		})
		if !isBusError(err, "org.freedesktop.systemd1.UnitExists") || time.Since(began) > unitTimeout {
			return fault.Wrap("starting "+unit, err)
		}
		if err := h.stopUnit(ctx, unit).wait(ctx); err != nil {
			return err
		}
		if err := process.Sleep(ctx, 5*time.Millisecond); err != nil { // until systemd has forgotten it
			return err
		}
	}
}

// unitTimeout is how long systemd may take to end a service whose processes are gone.
const unitTimeout = 5 * time.Second

func isBusError(err error, name string) bool {
	var bus dbus.Error
	return errors.As(err, &bus) && bus.Name == name
}

// follow waits for the end of the command line, as a job of systemd's, and notes how it went and what it said; or until
// it is left.
func follow(ctx, left context.Context, s *box.Store, c *apptainer.Command, host *Host, stderr *os.File, done <-chan string) {
	defer close(c.Done)
	defer host.Close()
	defer stderr.Close()
	result, err := awaitJob(ctx, left, s, c, host, done)
	if err == nil && result != "done" {
		err = fmt.Errorf("%s: %s", TransientUnit(c.Name), result)
	}
	c.Err = err
	_, _ = io.Copy(c.Stderr, io.NewSectionReader(stderr, 0, 1<<20)) // what could be read is what is known
}

// awaitJob gives the result of the start. When ctx ends the command line is killed; when systemd goes away meanwhile, as
// it does to execute itself anew, its processes tell.
func awaitJob(ctx, left context.Context, s *box.Store, c *apptainer.Command, host *Host, done <-chan string) (string, error) {
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case result := <-done:
			return result, nil
		case <-left.Done():
			return "done", nil
		case <-ctx.Done():
			if left.Err() != nil {
				return "done", nil // both, and the first to be seen
			}
			after, cancel := context.WithTimeout(context.WithoutCancel(ctx), guest.AskTimeout)
			defer cancel()
			err := host.Conn.KillUnitWithTarget(after, TransientUnit(c.Name), systemdbus.Control, int32(syscall.SIGKILL))
			return "", errors.Join(context.Cause(ctx), ignoreNoUnit(err))
		case <-look.C:
			if !host.Conn.Connected() {
				return "done", apptainer.AwaitOrEnd(ctx, s.Conf(), c.Name, apptainer.OrphanTimeout)
			}
		}
	}
}

func ignoreNoUnit(err error) error {
	if isBusError(err, "org.freedesktop.systemd1.NoSuchUnit") || isBusError(err, "org.freedesktop.systemd1.NoSuchProcess") {
		return nil
	}
	return err
}

// A stopping is a service that systemd was asked to stop.
type stopping struct {
	host *Host
	unit string
	done chan string // gets the result of the job
	err  error       // why there is nothing to wait for
}

// stopUnit asks systemd to stop a service. One that is not there has stopped.
func (h *Host) stopUnit(ctx context.Context, unit string) stopping {
	s := stopping{host: h, unit: unit, done: make(chan string, 1)}
	err := h.Ask(ctx, func(ctx context.Context) error {
		_, err := h.Conn.StopUnitContext(ctx, unit, "replace", s.done)
		return err
	})
	if isBusError(err, "org.freedesktop.systemd1.NoSuchUnit") {
		s.done <- "done"
		return s
	}
	s.err = fault.Wrap("stopping "+unit, err)
	return s
}

// wait returns when the service has stopped. A "boxrun up" in it, which may wait for a lock that is ours, is told again to go:
// it may not have been listening yet when systemd told it.
func (s stopping) wait(ctx context.Context) error {
	if s.err != nil {
		return s.err
	}
	ctx, cancel := context.WithTimeout(ctx, unitTimeout)
	defer cancel()
	again := time.NewTicker(200 * time.Millisecond)
	defer again.Stop()
	for {
		select {
		case <-s.done:
			return nil
		case <-again.C: // it fails where nothing runs any more
			_ = s.host.Conn.KillUnitWithTarget(ctx, s.unit, systemdbus.Main, int32(process.HaltSignal))
		case <-ctx.Done():
			return fault.Wrap("waiting for the end of "+s.unit, context.Cause(ctx))
		}
	}
}

// Stoppings are the services of a box that is being taken down.
type Stoppings struct {
	host *Host // nil where systemd has no part in it
	all  []stopping
}

// Stop tells the host's systemd that the box is being taken down on purpose. From then on it starts nothing anew,
// and were this boxrun killed, the services' own "boxrun down" would finish its work. The service that runs us is left
// out: of that one systemd knows.
func Stop(ctx context.Context, store *box.Store, b *box.Box) Stoppings {
	if !Booted() {
		return Stoppings{}
	}
	host, err := Dial(ctx)
	if err != nil {
		store.Notef("warning: %v", err) // the box goes all the same
		return Stoppings{}
	}
	s := Stoppings{host: host}
	own := OwnUnit()
	if own == "" {
		host.settle(ctx, TransientUnit(b.Name))
		host.wakeBus(ctx)
	}
	for _, unit := range unitsOf(b) {
		if unit != own {
			s.all = append(s.all, host.stopUnit(ctx, unit))
		}
	}
	return s
}

// settle waits until a service has started, its command line being in its last sleep: told to stop before that, systemd
// would not know Apptainer's master yet, and kill it.
func (h *Host) settle(ctx context.Context, unit string) {
	for began := time.Now(); time.Since(began) < unitTimeout; {
		state, err := h.activeState(ctx, unit)
		if err != nil || state != "activating" || process.Sleep(ctx, 5*time.Millisecond) != nil {
			return
		}
	}
}

// wakeBus starts the system's bus where it does not run and its socket waits for somebody to call. Apptainer's master will
// do so at its end, to have systemd end the box's scope; and as boxes are started after the bus, and so stopped before it,
// systemd would hold back its start until the stop of the box's service is over, for which that master is waited for.
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
	err = h.Ask(ctx, func(ctx context.Context) error {
		_, err := h.Conn.StartUnitContext(ctx, "dbus.service", "fail", done)
		return err
	})
	if err != nil {
		return // the master is waited for, and killed
	}
	ctx, cancel := context.WithTimeout(ctx, unitTimeout)
	defer cancel()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

func (h *Host) activeState(ctx context.Context, unit string) (state any, err error) {
	err = h.Ask(ctx, func(ctx context.Context) error {
		p, err := h.Conn.GetUnitPropertyContext(ctx, unit, "ActiveState")
		if err == nil {
			state = p.Value.Value()
		}
		return err
	})
	return state, err
}

// Wait returns when the services have stopped. It is called when the box has.
func (s Stoppings) Wait(ctx context.Context) error {
	var errs []error
	for _, one := range s.all {
		errs = append(errs, one.wait(ctx))
	}
	return errors.Join(errs...)
}

func (s Stoppings) Close() {
	if s.host != nil {
		s.host.Close()
	}
}

// ErrTakenDown says that the box this boxrun was to stop has ended while another boxrun works on it, which will do the rest.
var ErrTakenDown = errors.New("another boxrun takes the box down")

// LockToStop takes the lock of a box to take it down. Run by systemd to stop a service, as happens too when its box has
// ended, it does not wait for a boxrun that works on what is left: that one may be waiting for this service.
func LockToStop(ctx context.Context, s *box.Store, name string) (unlock func(), err error) {
	if !UnitIsOf(OwnUnit(), name) {
		return s.LockBox(ctx, name)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		awaitMaster(ctx, s, name)
		cancel(ErrTakenDown)
	}()
	return s.LockBox(ctx, name)
}

// awaitMaster returns when the box has no master that runs.
func awaitMaster(ctx context.Context, s *box.Store, name string) {
	for masterAlive(s, name) {
		if process.Sleep(ctx, 20*time.Millisecond) != nil {
			return
		}
	}
}

func masterAlive(s *box.Store, name string) bool {
	b, err := s.Load(name)
	return err == nil && b.Master.PID > 1 && b.Master.Alive()
}

// OthersBox says whether systemd stops a service that this box is not in: the one it is for has been taken down, and this
// one is the next. A box that the service only watches has its master for the service's main process.
func OthersBox(b *box.Box) bool {
	own := OwnUnit()
	main := strconv.Itoa(b.Master.PID)
	return slices.Contains(unitsOf(b), own) && own != b.Unit && main != os.Getenv("MAINPID")
}

// DiedUnseen says whether systemd stops the service of a box that died while the command line that started it still slept:
// where the master has gone by the end of that, systemd has no process to watch, and takes the service for one that has done
// its work. The box has crashed all the same. Of a main process that has ended systemd tells how (systemd.exec(5)).
func DiedUnseen(b *box.Box) bool {
	_, ended := os.LookupEnv("EXIT_CODE")
	return OwnUnit() == TransientUnit(b.Name) && b.Phase == box.Running && !b.Alive() && !ended && os.Getenv("MAINPID") == ""
}

// UnitFor gives the service that the box will live in; "" where systemd does not run the host.
func UnitFor(p profiles.Profile) string {
	switch own := OwnUnit(); {
	case own == InstanceUnit(p):
		return own
	case Booted():
		return TransientUnit(p.Name)
	}
	return ""
}

// Watches says whether systemd looks after a box that is enabled: its service is up, or between two starts, and comes to
// know of the box's end, or knows.
func Watches(ctx context.Context, s *box.Store, b *box.Box) bool {
	if !Booted() {
		return false
	}
	host, err := Dial(ctx)
	if err != nil {
		return false
	}
	defer host.Close()
	state, err := host.activeState(ctx, InstanceUnit(b.Profile))
	return err == nil && state != "inactive" && state != "failed"
}

// Watched has systemd watch a box that is up, if its profile is enabled, and tells it so where systemd ran this boxrun.
func Watched(ctx context.Context, s *box.Store, b *box.Box, p profiles.Profile) error {
	unit := InstanceUnit(p)
	if OwnUnit() == unit {
		_, err := daemon.SdNotify(false, fmt.Sprintf("MAINPID=%d\nREADY=1\nSTATUS=%s", b.Master.PID, b.Where()))
		return fault.Wrap("telling systemd that "+b.Name+" is up", err)
	}
	if !Booted() || !Enabled(p) {
		return nil
	}
	host, err := Dial(ctx)
	if err != nil {
		return err
	}
	defer host.Close()
	if err := refresh(ctx, s, host, p); err != nil {
		return err
	}
	_ = host.Ask(ctx, func(ctx context.Context) error { // it fails where there was no failure
		return host.Conn.ResetFailedUnitContext(ctx, unit)
	})
	return fault.Wrap("having systemd watch "+b.Name, host.startUnit(ctx, unit))
}
