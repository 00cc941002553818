package launcher

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

// hostSystemd is a connection to the systemd that runs the host, over the socket that systemctl uses as root: no bus
// daemon need be up.
type hostSystemd struct {
	conn *systemdbus.Conn
	stop context.CancelFunc
}

// dialHost connects to the host's systemd, within askTimeout.
func dialHost(ctx context.Context) (*hostSystemd, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
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
	return &hostSystemd{conn: conn, stop: stop}, nil
}

// Close ends the connection.
func (h *hostSystemd) Close() {
	h.conn.Close()
	h.stop()
}

// ask asks one question within askTimeout: a systemd that hangs may still have taken the connection.
func (h *hostSystemd) ask(ctx context.Context, question func(context.Context) error) error {
	return within(ctx, askTimeout, question)
}

func within(ctx context.Context, limit time.Duration, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return do(ctx)
}

// reloadTimeout is how long systemd may take to read all units again, with its generators; that of systemctl.
const reloadTimeout = 90 * time.Second

// reload has systemd read its units again.
func (h *hostSystemd) reload(ctx context.Context) error {
	return wrap("having systemd read its units again", within(ctx, reloadTimeout, h.conn.ReloadContext))
}

// startUnit asks systemd to start a service, and does not wait for it.
func (h *hostSystemd) startUnit(ctx context.Context, unit string) error {
	return h.ask(ctx, func(ctx context.Context) error {
		_, err := h.conn.StartUnitContext(ctx, unit, "replace", nil)
		return err
	})
}

// disableUnits has systemd no longer start units with what wants them.
func (h *hostSystemd) disableUnits(ctx context.Context, units []string) error {
	return h.ask(ctx, func(ctx context.Context) error {
		_, err := h.conn.DisableUnitFilesContext(ctx, units, false)
		return err
	})
}

// forgetFailures has systemd list no service that has failed and matches one of the patterns, such as one whose file is gone.
func (h *hostSystemd) forgetFailures(ctx context.Context, patterns ...string) error {
	return h.ask(ctx, func(ctx context.Context) error {
		failed, err := h.conn.ListUnitsByPatternsContext(ctx, []string{"failed"}, patterns)
		errs := []error{err}
		for _, unit := range failed {
			errs = append(errs, ignoreNoUnit(h.conn.ResetFailedUnitContext(ctx, unit.Name)))
		}
		return errors.Join(errs...)
	})
}

// runInUnit has the host's systemd run argv, the command c, as the box's transient service. argv[0] is a path.
func (s *Store) runInUnit(ctx context.Context, b *Box, c *command, argv []string) error {
	down, err := s.downCommand(b.Name)
	if err != nil {
		return err
	}
	host, err := dialHost(ctx)
	if err != nil {
		return err
	}
	stderr, err := memoryFile("stderr of apptainer")
	if err != nil {
		host.Close()
		return err
	}
	properties := append(transientProperties(b, argv, down, environment(s.Home)),
		property("StandardErrorFileDescriptor", dbus.UnixFD(stderr.Fd())))
	done := make(chan string, 1)
	if err := host.startTransient(ctx, transientUnit(c.name), properties, done); err != nil {
		host.Close()
		return errors.Join(err, stderr.Close())
	}
	left, leave := context.WithCancel(context.Background())
	c.leave = leave
	go func() {
		defer leave()
		s.follow(ctx, left, c, host, stderr, done)
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

// downCommand gives what systemd runs to stop a box.
func (s *Store) downCommand(name string) ([]string, error) {
	exe, err := unitPath(s.Exe)
	if s.Dir == StateDir {
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

// transientProperties gives the box's service: what boxrun@.service says too, and what is its own. See there for the
// signal. It goes as soon as it has ended, well or not, so that the next up finds its name free.
func transientProperties(b *Box, start, stop, env []string) []systemdbus.Property {
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
		property("KillSignal", int32(HaltSignal)),
		property("TimeoutStartUSec", microseconds(bootTimeout(p)+startGrace)),
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

// systemdRun gives the command that starts a transient service of these properties. The service's own command line stands
// on a line of its own.
func systemdRun(unit string, properties []systemdbus.Property) string {
	words := []string{"systemd-run", "-q", "--unit=" + unit}
	var start []string
	for _, p := range properties {
		if p.Name == "ExecStart" {
			start = commandOf(p)
			continue
		}
		words = append(words, propertyWords(p)...)
	}
	return Quote(words) + " \\\n  " + Quote(start)
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
func (h *hostSystemd) startTransient(ctx context.Context, unit string, properties []systemdbus.Property, done chan<- string) error {
	for began := time.Now(); ; {
		err := h.ask(ctx, func(ctx context.Context) error {
			_, err := h.conn.StartTransientUnitContext(ctx, unit, "fail", properties, done)
			return err
		})
		if !isBusError(err, "org.freedesktop.systemd1.UnitExists") || time.Since(began) > unitTimeout {
			return wrap("starting "+unit, err)
		}
		if err := h.stopUnit(ctx, unit).wait(ctx); err != nil {
			return err
		}
		if err := sleep(ctx, 5*time.Millisecond); err != nil { // until systemd has forgotten it
			return err
		}
	}
}

// unitTimeout is how long systemd may take to end a service whose processes are gone.
const unitTimeout = 5 * time.Second

func wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}

func isBusError(err error, name string) bool {
	var bus dbus.Error
	return errors.As(err, &bus) && bus.Name == name
}

// follow waits for the end of the command line, as a job of systemd's, and notes how it went and what it said; or until
// it is left.
func (s *Store) follow(ctx, left context.Context, c *command, host *hostSystemd, stderr *os.File, done <-chan string) {
	defer close(c.done)
	defer host.Close()
	defer stderr.Close()
	result, err := s.awaitJob(ctx, left, c, host, done)
	if err == nil && result != "done" {
		err = fmt.Errorf("%s: %s", transientUnit(c.name), result)
	}
	c.err = err
	_, _ = io.Copy(c.stderr, io.NewSectionReader(stderr, 0, 1<<20)) // what could be read is what is known
}

// awaitJob gives the result of the start. When ctx ends the command line is killed; when systemd goes away meanwhile, as
// it does to execute itself anew, its processes tell.
func (s *Store) awaitJob(ctx, left context.Context, c *command, host *hostSystemd, done <-chan string) (string, error) {
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
			after, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTimeout)
			defer cancel()
			err := host.conn.KillUnitWithTarget(after, transientUnit(c.name), systemdbus.Control, int32(syscall.SIGKILL))
			return "", errors.Join(context.Cause(ctx), ignoreNoUnit(err))
		case <-look.C:
			if !host.conn.Connected() {
				return "done", awaitOrEnd(ctx, s.conf(), c.name, orphanTimeout)
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
	host *hostSystemd
	unit string
	done chan string // gets the result of the job
	err  error       // why there is nothing to wait for
}

// stopUnit asks systemd to stop a service. One that is not there has stopped.
func (h *hostSystemd) stopUnit(ctx context.Context, unit string) stopping {
	s := stopping{host: h, unit: unit, done: make(chan string, 1)}
	err := h.ask(ctx, func(ctx context.Context) error {
		_, err := h.conn.StopUnitContext(ctx, unit, "replace", s.done)
		return err
	})
	if isBusError(err, "org.freedesktop.systemd1.NoSuchUnit") {
		s.done <- "done"
		return s
	}
	s.err = wrap("stopping "+unit, err)
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
			_ = s.host.conn.KillUnitWithTarget(ctx, s.unit, systemdbus.Main, int32(HaltSignal))
		case <-ctx.Done():
			return wrap("waiting for the end of "+s.unit, context.Cause(ctx))
		}
	}
}

// stoppings are the services of a box that is being taken down.
type stoppings struct {
	host *hostSystemd // nil where systemd has no part in it
	all  []stopping
}

// stopUnits tells the host's systemd that the box is being taken down on purpose. From then on it starts nothing anew,
// and were this boxrun killed, the services' own "boxrun down" would finish its work. The service that runs us is left
// out: of that one systemd knows.
func (store *Store) stopUnits(ctx context.Context, b *Box) stoppings {
	if !systemdHost() {
		return stoppings{}
	}
	host, err := dialHost(ctx)
	if err != nil {
		store.notef("warning: %v", err) // the box goes all the same
		return stoppings{}
	}
	s := stoppings{host: host}
	own := ownUnit()
	if own == "" {
		host.settle(ctx, transientUnit(b.Name))
		host.wakeBus(ctx)
	}
	for _, unit := range b.unitsOf() {
		if unit != own {
			s.all = append(s.all, host.stopUnit(ctx, unit))
		}
	}
	return s
}

// settle waits until a service has started, its command line being in its last sleep: told to stop before that, systemd
// would not know Apptainer's master yet, and kill it.
func (h *hostSystemd) settle(ctx context.Context, unit string) {
	for began := time.Now(); time.Since(began) < unitTimeout; {
		state, err := h.activeState(ctx, unit)
		if err != nil || state != "activating" || sleep(ctx, 5*time.Millisecond) != nil {
			return
		}
	}
}

// wakeBus starts the system's bus where it does not run and its socket waits for somebody to call. Apptainer's master will
// do so at its end, to have systemd end the box's scope; and as boxes are started after the bus, and so stopped before it,
// systemd would hold back its start until the stop of the box's service is over, for which that master is waited for.
func (h *hostSystemd) wakeBus(ctx context.Context) {
	bus, err := h.activeState(ctx, "dbus.service")
	if err != nil || bus == "active" {
		return
	}
	socket, err := h.activeState(ctx, "dbus.socket")
	if err != nil || socket != "active" {
		return
	}
	done := make(chan string, 1)
	err = h.ask(ctx, func(ctx context.Context) error {
		_, err := h.conn.StartUnitContext(ctx, "dbus.service", "fail", done)
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

func (h *hostSystemd) activeState(ctx context.Context, unit string) (state any, err error) {
	err = h.ask(ctx, func(ctx context.Context) error {
		p, err := h.conn.GetUnitPropertyContext(ctx, unit, "ActiveState")
		if err == nil {
			state = p.Value.Value()
		}
		return err
	})
	return state, err
}

// wait returns when the services have stopped. It is called when the box has.
func (s stoppings) wait(ctx context.Context) error {
	var errs []error
	for _, one := range s.all {
		errs = append(errs, one.wait(ctx))
	}
	return errors.Join(errs...)
}

func (s stoppings) Close() {
	if s.host != nil {
		s.host.Close()
	}
}

// errTakenDown says that the box this boxrun was to stop has ended while another boxrun works on it, which will do the rest.
var errTakenDown = errors.New("another boxrun takes the box down")

// lockToStop takes the lock of a box to take it down. Run by systemd to stop a service, as happens too when its box has
// ended, it does not wait for a boxrun that works on what is left: that one may be waiting for this service.
func (s *Store) lockToStop(ctx context.Context, name string) (unlock func(), err error) {
	if !unitIsOf(ownUnit(), name) {
		return s.lockBox(ctx, name)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		s.awaitMaster(ctx, name)
		cancel(errTakenDown)
	}()
	return s.lockBox(ctx, name)
}

// awaitMaster returns when the box has no master that runs.
func (s *Store) awaitMaster(ctx context.Context, name string) {
	for s.masterAlive(name) {
		if sleep(ctx, 20*time.Millisecond) != nil {
			return
		}
	}
}

func (s *Store) masterAlive(name string) bool {
	b, err := s.load(name)
	return err == nil && b.Master.PID > 1 && b.Master.alive()
}

// othersBox says whether systemd stops a service that this box is not in: the one it is for has been taken down, and this
// one is the next. A box that the service only watches has its master for the service's main process.
func (b *Box) othersBox() bool {
	own := ownUnit()
	main := strconv.Itoa(b.Master.PID)
	return slices.Contains(b.unitsOf(), own) && own != b.Unit && main != os.Getenv("MAINPID")
}

// diedUnseen says whether systemd stops the service of a box that died while the command line that started it still slept:
// where the master has gone by the end of that, systemd has no process to watch, and takes the service for one that has done
// its work. The box has crashed all the same. Of a main process that has ended systemd tells how (systemd.exec(5)).
func (b *Box) diedUnseen() bool {
	_, ended := os.LookupEnv("EXIT_CODE")
	return ownUnit() == transientUnit(b.Name) && b.Phase == Running && !b.alive() && !ended && os.Getenv("MAINPID") == ""
}

// unitFor gives the service that the box will live in; "" where systemd does not run the host.
func unitFor(p profiles.Profile) string {
	switch own := ownUnit(); {
	case own == instanceUnit(p):
		return own
	case systemdHost():
		return transientUnit(p.Name)
	}
	return ""
}

// watches says whether systemd looks after a box that is enabled: its service is up, or between two starts, and comes to
// know of the box's end, or knows.
func (s *Store) watches(ctx context.Context, b *Box) bool {
	if !systemdHost() {
		return false
	}
	host, err := dialHost(ctx)
	if err != nil {
		return false
	}
	defer host.Close()
	state, err := host.activeState(ctx, instanceUnit(b.Profile))
	return err == nil && state != "inactive" && state != "failed"
}

// watched has systemd watch a box that is up, if its profile is enabled, and tells it so where systemd ran this boxrun.
func (s *Store) watched(ctx context.Context, b *Box, p profiles.Profile) error {
	unit := instanceUnit(p)
	if ownUnit() == unit {
		_, err := daemon.SdNotify(false, fmt.Sprintf("MAINPID=%d\nREADY=1\nSTATUS=%s", b.Master.PID, b.Where()))
		return wrap("telling systemd that "+b.Name+" is up", err)
	}
	if !systemdHost() || !Enabled(p) {
		return nil
	}
	host, err := dialHost(ctx)
	if err != nil {
		return err
	}
	defer host.Close()
	if err := s.refresh(ctx, host, p); err != nil {
		return err
	}
	_ = host.ask(ctx, func(ctx context.Context) error { // it fails where there was no failure
		return host.conn.ResetFailedUnitContext(ctx, unit)
	})
	return wrap("having systemd watch "+b.Name, host.startUnit(ctx, unit))
}
