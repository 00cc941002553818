package apptainer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"boxrun/launcher/process"
	"boxrun/netsetup/leases"
)

// OrphanTimeout limits the time for the rest of a start without a boxrun. CNI gives up after 5 s.
const OrphanTimeout = 8 * time.Second

// Processes are Apptainer's processes of one instance.
type Processes struct {
	CLI     []process.Process // "apptainer -c CONF instance start ... NAME"
	Masters []process.Process // titled after the instance: the master and, during a start, its parent and child
}

// FindProcesses searches /proc for root's processes that start or hold the Apptainer instance name. A command line
// counts only if boxrun ran it, with -c conf. Processes of other users do not count, because anyone can choose the
// title of a process.
func FindProcesses(name, conf string) (Processes, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return Processes{}, fmt.Errorf("looking for processes of instance %q: %w", name, err)
	}
	var found Processes
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		argv := argvOf(pid)
		isMaster, isCLI := holdsInstance(argv, name), startsInstance(argv, name, conf)
		if !isMaster && !isCLI || !process.OwnedByRoot(pid) {
			continue
		}
		p, err := process.Open(pid)
		switch {
		case err != nil: // the process has ended meanwhile
		case isMaster:
			found.Masters = append(found.Masters, p)
		case isCLI:
			found.CLI = append(found.CLI, p)
		}
	}
	return found, nil
}

// argvOf returns a process's argument vector; nil for a process already gone, a zombie, or a kernel thread.
func argvOf(pid int) []string {
	text, err := os.ReadFile(process.ProcFile(pid, "cmdline"))
	text = bytes.TrimSuffix(text, []byte{0})
	if err != nil || len(text) == 0 {
		return nil
	}
	return strings.Split(string(text), "\x00")
}

// holdsInstance reports whether argv belongs to Apptainer's master of root's instance name.
func holdsInstance(argv []string, name string) bool {
	return len(argv) > 0 && argv[0] == MasterTitle(name)
}

// startsInstance reports whether argv is a boxrun command line to start the instance. apptainer may be a script; then
// the interpreter comes first and apptainer second.
func startsInstance(argv []string, name, conf string) bool {
	at := slices.IndexFunc(argv, func(arg string) bool { return filepath.Base(arg) == "apptainer" })
	if at < 0 || at > 1 || argv[len(argv)-1] != name {
		return false
	}
	rest := argv[at+1:]
	return len(rest) > 4 && slices.Equal(rest[:4], []string{"-c", conf, "instance", "start"})
}

func (i Processes) all() []process.Process { return slices.Concat(i.CLI, i.Masters) }

// underWay reports whether a start is under way: a command line runs, or a master is not past the start. During a
// start the master is the child of a process with the same title, and then has a child with the same title. The last
// step of a start turns this child into the box's init.
func (i Processes) underWay() (bool, error) {
	if len(i.CLI) > 0 {
		return true, nil
	}
	for _, m := range i.Masters {
		parent, err := process.ParentOf(m.PID)
		if errors.Is(err, os.ErrProcessDone) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		isMaster := func(p process.Process) bool { return p.PID == parent }
		if slices.ContainsFunc(i.Masters, isMaster) || !HasChild(m.PID) {
			return true, nil
		}
	}
	return false, nil
}

// end kills the processes and waits until they are gone. The command line goes first, because it must not report a
// success.
func (i Processes) end(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, process.KillTimeout)
	defer cancel()
	var errs []error
	for _, p := range i.all() {
		errs = append(errs, p.Kill())
	}
	for _, p := range i.all() {
		errs = append(errs, p.Wait(ctx))
	}
	return errors.Join(errs...)
}

// EndPlugins kills the CNI plugins that run for an instance that is gone, in the cgroup of this boxrun, and waits for their end.
// Apptainer kills a plugin that takes too long, and leaves the plugin's helper: one that waits for the lock of the leases would
// then take a lease for the dead. Where Apptainer has a service of its own, systemd ends them with the service.
func EndPlugins(ctx context.Context) error {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return fmt.Errorf("looking for plugins that a failed start left: %w", err)
	}
	var plugins Processes
	environs, _ := filepath.Glob("/proc/[0-9]*/environ") // the pattern is well-formed
	for _, environ := range environs {
		dir := filepath.Dir(environ)
		pid, _ := strconv.Atoi(filepath.Base(dir))
		p, err := process.Open(pid)
		if err != nil || !deserted(environ) {
			continue
		}
		if cgroup, err := os.ReadFile(filepath.Join(dir, "cgroup")); err == nil && bytes.Equal(cgroup, own) {
			plugins.Masters = append(plugins.Masters, p)
		}
	}
	return plugins.end(ctx)
}

// deserted reports whether an environment is that of a CNI plugin whose container, which Apptainer names by its pid, is gone.
func deserted(environ string) bool {
	text, _ := os.ReadFile(environ) // of a process that is gone there is none
	for _, variable := range strings.Split(string(text), "\x00") {
		if pid, ok := strings.CutPrefix(variable, "CNI_CONTAINERID="); ok {
			number, err := strconv.Atoi(pid)
			return err == nil && !leases.Alive(number)
		}
	}
	return false
}

// AwaitOrEnd waits until no start of the instance by boxrun (with -c conf) is under way. A start is over when the
// command line has ended and the master, if any, has booted the box. After timeout, AwaitOrEnd kills an unfinished
// start. A running instance is left alone.
func AwaitOrEnd(ctx context.Context, conf, name string, timeout time.Duration) error {
	began := time.Now()
	for {
		procs, err := FindProcesses(name, conf)
		if err != nil {
			return err
		}
		underWay, err := procs.underWay()
		if err != nil || !underWay {
			return err
		}
		if time.Since(began) > timeout {
			return procs.end(ctx)
		}
		if err := process.Sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// HasChild reports whether a process has a child.
func HasChild(pid int) bool {
	tasks, _ := filepath.Glob(process.ProcFile(pid, "task/*/children")) // the pattern is well-formed
	return slices.ContainsFunc(tasks, func(file string) bool {
		text, err := os.ReadFile(file)
		return err == nil && len(text) > 0
	})
}
