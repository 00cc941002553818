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

// Apptainer's master stays in the cgroup of the caller of the command line. In a person's session, a logout would kill
// the master and with it the box, its databases open. So on a host run by systemd, systemd runs the command line, as a
// service made for the purpose.
//
// The service has type forking and no PIDFile. --pid-file writes the PID of the box's init, but Apptainer has moved
// init to a scope of its own by then, and systemd has to watch the master. After the command line has ended, the master
// is the only process of the service whose parent is systemd: helpers for images are children of the master. So systemd
// finds the master by itself, whether or not boxrun lives to see it.

// Host is a connection to the host's systemd, over the socket of root's systemctl. No bus daemon needs to be up.
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
		stop() // closes a half-made connection
		return nil, fmt.Errorf("connecting to the host's systemd: %w", err)
	}
	return &Host{Conn: conn, stop: stop}, nil
}

// Close ends the connection.
func (h *Host) Close() {
	h.Conn.Close()
	h.stop()
}

// Ask asks a question within AskTimeout. A hanging systemd may still have taken the connection.
func (h *Host) Ask(ctx context.Context, question func(context.Context) error) error {
	return within(ctx, guest.AskTimeout, question)
}

// within calls do with a context limited to limit.
func within(ctx context.Context, limit time.Duration, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return do(ctx)
}

// reloadTimeout is how long systemd may take to read all units again, with its generators. systemctl has the same
// limit.
const reloadTimeout = 90 * time.Second

// reload makes systemd read its units again.
func (h *Host) reload(ctx context.Context) error {
	return fault.Wrap("having systemd read its units again", within(ctx, reloadTimeout, h.Conn.ReloadContext))
}

// startUnit asks systemd to start a service, and does not wait for the start.
func (h *Host) startUnit(ctx context.Context, unit string) error {
	return h.Ask(ctx, func(ctx context.Context) error {
		_, err := h.Conn.StartUnitContext(ctx, unit, "replace", nil)
		return err
	})
}

// disableUnits makes systemd remove the links that start the units.
func (h *Host) disableUnits(ctx context.Context, units []string) error {
	return h.Ask(ctx, func(ctx context.Context) error {
		_, err := h.Conn.DisableUnitFilesContext(ctx, units, false)
		return err
	})
}

// forgetFailures makes systemd list no failed service that matches a pattern, such as a service whose file is gone.
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

// Run makes the host's systemd run the command line as the box's transient service.
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

// memoryFile returns a file without a name. A memfd, not a pipe: the service keeps the file as stderr of its later
// commands, and they would die of SIGPIPE on a pipe, because nobody reads any more.
func memoryFile(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// DownCommand returns the command systemd runs to stop a box.
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

// execCommand is systemd's a(sasb): executable, argument vector, whether to ignore a bad end.
type execCommand struct {
	Path   string
	Args   []string
	Ignore bool
}

// execProperty returns a command line as a property for systemd. Dollar signs are doubled, because systemd would
// replace $WORD by a variable.
func execProperty(name string, argv []string) systemdbus.Property {
	args := make([]string, len(argv))
	for i, arg := range argv {
		args[i] = strings.ReplaceAll(arg, "$", "$$")
	}
	return property(name, []execCommand{{Path: argv[0], Args: args}})
}

// TransientProperties returns the properties of the box's service: the settings it has in common with boxrun@.service,
// and its own. boxrun@.service explains the signal. The service goes as soon as it has ended, well or not, so the next
// up finds the name free.
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

// ofTheService returns the variables systemd sets to tell a service about itself (systemd.exec(5)). The systemd of the
// box would take the variables for its own, but the host's cgroup to watch for memory pressure does not exist there.
func ofTheService() []string {
	return []string{"INVOCATION_ID", "JOURNAL_STREAM", "MEMORY_PRESSURE_WATCH", "MEMORY_PRESSURE_WRITE", "SYSTEMD_EXEC_PID"}
}

// SystemdRun returns the command to start a transient service with these properties. The service's own command line
// stands on a separate line.
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

// commandOf returns the argument vector in a property from execProperty.
func commandOf(p systemdbus.Property) []string {
	commands, _ := p.Value.Value().([]execCommand)
	return commands[0].Args
}

// propertyWords returns the arguments of systemd-run for a property.
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

// unitWords joins words into a list, quoted for systemd to split again.
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

// startTransient starts a transient service. done receives the result of the job. A service of the same name, left by a
// box with lost state, is stopped first.
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
		if err := process.Sleep(ctx, 5*time.Millisecond); err != nil { // until systemd forgets the service
			return err
		}
	}
}

// unitTimeout is how long systemd may take to end a service without processes.
const unitTimeout = 5 * time.Second

func isBusError(err error, name string) bool {
	var bus dbus.Error
	return errors.As(err, &bus) && bus.Name == name
}

// follow waits for the end of the command line, a job of systemd's, or until left ends. follow stores the outcome and
// the command line's stderr in c.
func follow(ctx, left context.Context, s *box.Store, c *apptainer.Command, host *Host, stderr *os.File, done <-chan string) {
	defer close(c.Done)
	defer host.Close()
	defer stderr.Close()
	result, err := awaitJob(ctx, left, s, c, host, done)
	if err == nil && result != "done" {
		err = fmt.Errorf("%s: %s", TransientUnit(c.Name), result)
	}
	c.Err = err
	_, _ = io.Copy(c.Stderr, io.NewSectionReader(stderr, 0, 1<<20)) // a part is better than nothing
}

// awaitJob returns the result of the start. When ctx ends, awaitJob kills the command line. When systemd goes away
// meanwhile, as it does to execute itself anew, awaitJob looks at the processes of the start instead.
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
				return "done", nil // both have ended; the first to end counts
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
	done chan string // receives the result of the job
	err  error       // why nothing is to be waited for
}

// stopUnit asks systemd to stop a service. A missing service counts as stopped.
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

// wait returns when the service has stopped. A "boxrun up" in the service may be waiting for a lock of ours, and may
// not have listened yet when systemd told it to go. So wait repeats the signal.
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

// Stoppings are the services of a box on its way down.
type Stoppings struct {
	host *Host // nil if systemd has no part in it
	all  []stopping
}

// Stop tells the host's systemd about the intended end of the box. From then on systemd starts nothing anew, and
// if this boxrun were killed, the services' own "boxrun down" would finish the work. The service around this process is
// left out, because systemd knows about its stop.
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

// settle waits until a service has started: until then the command line is in its last sleep. If told to stop earlier,
// systemd would not know Apptainer's master yet, and would kill it.
func (h *Host) settle(ctx context.Context, unit string) {
	for began := time.Now(); time.Since(began) < unitTimeout; {
		state, err := h.activeState(ctx, unit)
		if err != nil || state != "activating" || process.Sleep(ctx, 5*time.Millisecond) != nil {
			return
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
	err = h.Ask(ctx, func(ctx context.Context) error {
		_, err := h.Conn.StartUnitContext(ctx, "dbus.service", "fail", done)
		return err
	})
	if err != nil {
		return // endMaster waits for the master, and kills a hanging master
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

// Wait returns when the services have stopped. Callers wait after the stop of the box.
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

// ErrTakenDown says that the box to be stopped has ended while another boxrun works on it. The other boxrun does the
// rest.
var ErrTakenDown = errors.New("another boxrun takes the box down")

// LockToStop takes the lock of a box to take the box down. systemd runs boxrun to stop a service, also after the
// service's box has ended. Then LockToStop does not wait for another boxrun at work on the remains, because the other
// boxrun may be waiting for this service. The error is ErrTakenDown in this case.
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

// awaitMaster returns when no master of the box runs.
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

// OthersBox reports whether systemd is stopping a service without b inside: the service was for an earlier box, already
// taken down, and b is the next box. If the service only watches b, the service's main process is b's master, and
// OthersBox returns false.
func OthersBox(b *box.Box) bool {
	own := OwnUnit()
	main := strconv.Itoa(b.Master.PID)
	return slices.Contains(unitsOf(b), own) && own != b.Unit && main != os.Getenv("MAINPID")
}

// DiedUnseen reports whether systemd stops the service of a box that died while the command line was in its last sleep.
// If the master is gone by the end of the sleep, systemd has no process to watch, and considers the work of the service
// done. The box has crashed all the same. When a main process has ended, systemd says how in EXIT_CODE
// (systemd.exec(5)).
func DiedUnseen(b *box.Box) bool {
	_, ended := os.LookupEnv("EXIT_CODE")
	return OwnUnit() == TransientUnit(b.Name) && b.Phase == box.Running && !b.Alive() && !ended && os.Getenv("MAINPID") == ""
}

// UnitFor returns the service the box will live in; "" on a host not run by systemd.
func UnitFor(p profiles.Profile) string {
	switch own := OwnUnit(); {
	case own == InstanceUnit(p):
		return own
	case Booted():
		return TransientUnit(p.Name)
	}
	return ""
}

// Watches reports whether systemd looks after an enabled box: the service is up, or between two starts, and learns of
// the box's end, or knows already.
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

// Watched makes systemd watch a running box if its profile is enabled. If systemd ran this boxrun, watched tells
// systemd that the box is up.
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
	_ = host.Ask(ctx, func(ctx context.Context) error { // fails without a failure to reset
		return host.Conn.ResetFailedUnitContext(ctx, unit)
	})
	return fault.Wrap("having systemd watch "+b.Name, host.startUnit(ctx, unit))
}
