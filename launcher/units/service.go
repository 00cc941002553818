package units

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	systemdbus "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"

	"boxrun/launcher/apptainer"
	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/launcher/guest"
	"boxrun/launcher/list"
	"boxrun/launcher/process"
)

// Apptainer's master stays in the cgroup of the caller of the command line. In a person's session, a logout would kill
// the master and with it the box, its databases open. So on a host run by systemd, systemd runs the command line, as a
// service made for the purpose.
//
// The service has type forking and no PIDFile. --pid-file writes the PID of the box's init, but Apptainer has moved
// init to a scope of its own by then, and systemd has to watch the master. After the command line has ended, the master
// is the only process of the service whose parent is systemd: helpers for images are children of the master. So systemd
// finds the master by itself, whether or not boxrun lives to see it.

// StartCommand returns the command line that starts the box with argv and env as Run does.
func StartCommand(s *box.Store, b *box.Box, argv, env []string) (string, error) {
	properties, err := propertiesOf(s, b, argv, env)
	return systemdRun(Transient(b.Name), properties), err
}

// propertiesOf returns the properties of the transient service that starts the box with argv and env.
func propertiesOf(s *box.Store, b *box.Box, argv, env []string) ([]systemdbus.Property, error) {
	down, err := ownCommand(s, "down", b.Name)
	return transientProperties(b, argv, down, env), err
}

// ownCommand returns a command line of boxrun's for systemd to run.
func ownCommand(s *box.Store, args ...string) ([]string, error) {
	exe, err := unitPath(s.Exe)
	if s.Dir != box.StateDir {
		args = append([]string{"--state-dir", s.Dir}, args...)
	}
	return append([]string{exe}, args...), err
}

// property returns a property of a unit, for systemd.
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
	args := list.Map(argv, func(arg string) string { return strings.ReplaceAll(arg, "$", "$$") })
	return property(name, []execCommand{{Path: argv[0], Args: args}})
}

// transientProperties returns the properties of the box's service: the settings it has in common with boxrun@.service,
// and its own. boxrun@.service explains the signal. The service goes as soon as it has ended, well or not, so the next
// up finds the name free.
func transientProperties(b *box.Box, start, stop, env []string) []systemdbus.Property {
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
		property("TimeoutStartUSec", uint64((BootTimeout(p) + startGrace).Microseconds())),
		property("TimeoutStopUSec", uint64((p.Systemd.StopTimeout + stopGrace).Microseconds())),
		property("CollectMode", "inactive-or-failed"),
	}
	if unit := failureUnit(p); unit != "" {
		properties = append(properties, execProperty("ExecStopPost", []string{"/bin/sh", "-c", onFailure, unit}))
	}
	if paths := mountedPaths(p); len(paths) > 0 {
		properties = append(properties, systemdbus.PropRequiresMountsFor(paths...))
	}
	return properties
}

// onFailure starts a unit after a bad end of the service. OnFailure= would do the same, but systemd then keeps the failed service
// until the unit has ended, and an up meanwhile, be it by the unit, would find the name taken.
const onFailure = `case $SERVICE_RESULT in success) ;; *) exec systemctl start --no-block "$0" ;; esac`

// ofTheService returns the variables systemd sets to tell a service about itself (systemd.exec(5)). The systemd of the
// box would take the variables for its own, but the host's cgroup to watch for memory pressure does not exist there.
func ofTheService() []string {
	return []string{"INVOCATION_ID", "JOURNAL_STREAM", "MEMORY_PRESSURE_WATCH", "MEMORY_PRESSURE_WRITE", "SYSTEMD_EXEC_PID"}
}

// systemdRun returns the command to start a transient service with these properties. The service's own command line
// stands on a separate line.
func systemdRun(unit string, properties []systemdbus.Property) string {
	return systemdRunWith([]string{"systemd-run", "-q", "--unit=" + unit}, properties)
}

// systemdRunWith returns the command of words that starts a transient service with these properties.
func systemdRunWith(words []string, properties []systemdbus.Property) string {
	var start []string
	for _, p := range properties {
		if p.Name == "ExecStart" {
			start = p.Value.Value().([]execCommand)[0].Args
			continue
		}
		words = append(words, runArguments(p)...)
	}
	return files.QuoteAll(words) + " \\\n  " + files.QuoteAll(start)
}

// runArguments returns the arguments of systemd-run for a property.
func runArguments(p systemdbus.Property) (words []string) {
	name, text := p.Name, ""
	switch value := p.Value.Value().(type) {
	case []execCommand:
		text = unitWords(value[0].Args)
	case []string:
		if name == "Environment" {
			for _, variable := range value {
				words = append(words, "-E", variable)
			}
			return words
		}
		text = unitWords(value)
	case uint64:
		name = strings.TrimSuffix(strings.TrimSuffix(name, "USec"), "Sec") + "Sec"
		text = wholeSeconds(time.Duration(value) * time.Microsecond)
	default:
		text = fmt.Sprint(value)
	}
	return []string{"-p", name + "=" + text}
}

// unitWords joins words into a list, quoted for systemd to split again.
func unitWords(words []string) string {
	quote := func(word string) string {
		if !strings.ContainsAny(word, " \t\"'\\") {
			return word
		}
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(word) + `"`
	}
	return strings.Join(list.Map(words, quote), " ")
}

// Run makes the host's systemd run the command line as the box's transient service.
func Run(ctx context.Context, s *box.Store, b *box.Box, c *apptainer.Command, argv, env []string) error {
	properties, err := propertiesOf(s, b, argv, env)
	if err != nil {
		return err
	}
	host, err := Dial(ctx)
	if err != nil {
		return err
	}
	// The service keeps the file as stderr of its later commands. On a pipe they would die of SIGPIPE, because nobody
	// reads any more.
	stderr, err := files.InMemory("stderr of apptainer", nil)
	if err != nil {
		host.Close()
		return err
	}
	properties = append(properties, property("StandardErrorFileDescriptor", dbus.UnixFD(stderr.Fd())))
	done := make(chan string, 1)
	if err := host.startTransient(ctx, Transient(c.Name), properties, done); err != nil {
		host.Close()
		return errors.Join(err, stderr.Close())
	}
	left, leave := context.WithCancel(context.Background())
	c.Leave = leave
	go func() {
		defer leave()
		host.follow(ctx, left, c, stderr, done)
	}()
	return nil
}

// startTransient starts a transient service. done receives the result of the job. A service of the same name, left by a
// box with lost state, is stopped first.
func (h *Host) startTransient(
	ctx context.Context, unit string, properties []systemdbus.Property, done chan<- string,
) error {
	asked := h.Conn.Conn
	return h.untilFree(ctx, []string{unit}, func(ctx context.Context) error {
		_, err := h.StartTransientUnitContext(ctx, unit, "fail", properties, done)
		if isBusError(err, "UnitExists") && h.Conn.Conn != asked {
			h.Close() // the first question was heard, and nobody will tell the result of the job
			return nil
		}
		asked = h.Conn.Conn
		return err
	})
}

// untilFree starts transient units. If the names are taken by remains of earlier units, the remains are stopped, and start
// is called again until systemd has forgotten them.
func (h *Host) untilFree(ctx context.Context, units []string, start func(context.Context) error) error {
	for began := time.Now(); ; {
		err := h.Ask(ctx, start)
		if !isBusError(err, "UnitExists") || time.Since(began) > unitTimeout {
			return fault.Wrap("starting "+units[0], err)
		}
		if err := h.stop(ctx, units...).Wait(ctx); err != nil {
			return err
		}
		if err := process.Sleep(ctx, 5*time.Millisecond); err != nil { // until systemd forgets the units
			return err
		}
	}
}

// follow waits for the end of the command line, a job of systemd's, or until left ends. follow stores the outcome and
// the command line's stderr in c, and ends the connection.
func (h *Host) follow(ctx, left context.Context, c *apptainer.Command, stderr *os.File, done <-chan string) {
	defer close(c.Done)
	defer h.Close()
	defer stderr.Close()
	asked := h.Conn.Conn
	result, err := h.awaitJob(ctx, left, Transient(c.Name), done)
	if err == nil && result != "done" {
		err = fmt.Errorf("%s: %s", Transient(c.Name), result)
	}
	c.Err, c.Away, c.Taken = err, h.Conn.Conn != asked || !h.Connected(), result == "canceled"
	_, _ = io.Copy(c.Stderr, io.NewSectionReader(stderr, 0, 1<<20)) // a part is better than nothing
}

// awaitJob returns the result of the start. When ctx ends, awaitJob kills the command line. A systemd that has executed
// itself anew goes on with the start, and tells the result to nobody: then awaitJob looks at the state of the service.
func (h *Host) awaitJob(ctx, left context.Context, unit string, done <-chan string) (string, error) {
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for lost := false; ; {
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
			err := h.KillUnitWithTarget(after, unit, systemdbus.Control, int32(syscall.SIGKILL))
			return "", errors.Join(context.Cause(ctx), ignoreNoUnit(err))
		case <-look.C:
			if lost = lost || !h.Connected(); !lost {
				continue
			}
			state, err := h.activeState(ctx, unit)
			if err == nil && ended(state) {
				return "failed", nil
			}
			if err == nil && state == "active" {
				return "done", nil
			}
		}
	}
}
