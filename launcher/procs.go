package launcher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is one process of this boot, told by when it started from a later one that is given the same number.
type process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks after boot: field 22 of /proc/PID/stat
}

// openProcess gives the process that has the number now; os.ErrProcessDone where none has, or only a zombie.
func openProcess(pid int) (process, error) {
	s, err := statOf(pid)
	if err != nil {
		return process{}, err
	}
	return process{PID: pid, Start: s.start}, nil
}

// alive says whether the process still runs. A zombie does not, and neither does a process of which nothing can be
// read: boxrun is root.
func (p process) alive() bool {
	s, err := statOf(p.PID)
	return err == nil && s.start == p.Start
}

// signal sends sig to the process and to no other: the handle that os.FindProcess opens (a pidfd, from Linux 5.4 on)
// stays with the process it found, and that one is looked at before it is signalled. os.ErrProcessDone where the
// process is gone.
func (p process) signal(sig syscall.Signal) error {
	found, err := os.FindProcess(p.PID)
	if err != nil {
		return fmt.Errorf("signalling process %d: %w", p.PID, err)
	}
	defer found.Release() //nolint:errcheck // it only fails where there is nothing to release
	if !p.alive() {
		return fmt.Errorf("signalling process %d: %w", p.PID, os.ErrProcessDone)
	}
	if err := found.Signal(sig); err != nil {
		return fmt.Errorf("signalling process %d: %w", p.PID, err)
	}
	return nil
}

// kill ends the process at once; one that is gone is no error.
func (p process) kill() error {
	if err := p.signal(syscall.SIGKILL); !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// wait returns nil as soon as the process is gone, or why ctx ended before.
func (p process) wait(ctx context.Context) error {
	for began := time.Now(); p.alive(); {
		if err := sleep(ctx, pause(began, 2*time.Millisecond, 20*time.Millisecond)); err != nil {
			return err
		}
	}
	return nil
}

// handles says whether the process has a handler for sig, or blocks it to read it from a signalfd as systemd does. To
// an init without either the kernel does not deliver a signal from outside at all, SIGKILL and SIGSTOP apart. brief says
// that it blocks even SIGSEGV: so does the C library for the moment of a fork, when nothing is known of a handler.
func (p process) handles(sig syscall.Signal) (yes, brief bool) {
	text, err := os.ReadFile(procFile(p.PID, "status"))
	if err != nil {
		return false, false
	}
	masks := map[string]uint64{}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		if key != "SigBlk" && key != "SigCgt" {
			continue
		}
		if masks[key], err = strconv.ParseUint(strings.TrimSpace(value), 16, 64); err != nil {
			return false, false
		}
	}
	has := func(key string, sig syscall.Signal) bool { return masks[key]>>(uint(sig)-1)&1 == 1 }
	if has("SigCgt", sig) {
		return true, false
	}
	return has("SigBlk", sig), has("SigBlk", syscall.SIGSEGV)
}

// stat is what boxrun reads of /proc/PID/stat.
type stat struct {
	state  string
	parent int
	start  uint64
}

// statOf reads the state of a process; os.ErrProcessDone where there is none of that number, or only its zombie.
func statOf(pid int) (stat, error) {
	text, err := os.ReadFile(procFile(pid, "stat"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return stat{}, fmt.Errorf("reading process %d: %w", pid, os.ErrProcessDone)
	}
	if err != nil {
		return stat{}, err
	}
	s, err := parseStat(string(text))
	if err != nil {
		return stat{}, fmt.Errorf("reading process %d: %w", pid, err)
	}
	if s.state == "Z" || s.state == "X" {
		return stat{}, fmt.Errorf("reading process %d: %w", pid, os.ErrProcessDone)
	}
	return s, nil
}

// parseStat takes the fields from behind the command's last parenthesis: its name may hold spaces and parentheses.
func parseStat(text string) (stat, error) {
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 20 {
		return stat{}, fmt.Errorf("unexpected stat %q", text)
	}
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return stat{}, fmt.Errorf("unexpected stat %q", text)
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return stat{}, fmt.Errorf("unexpected stat %q", text)
	}
	return stat{state: fields[0], parent: parent, start: start}, nil
}

// parentOf gives the number of a process's parent, 0 where that is outside this PID namespace.
func parentOf(pid int) (int, error) {
	s, err := statOf(pid)
	return s.parent, err
}

func procFile(pid int, name string) string {
	return filepath.Join("/proc", strconv.Itoa(pid), name)
}

// instanceProcs are Apptainer's processes of one instance.
type instanceProcs struct {
	CLI     []process // "apptainer -c CONF instance start ... NAME"
	Masters []process // that call themselves after the instance: the master and, during a start, its parent and child
}

func (i instanceProcs) all() []process { return slices.Concat(i.CLI, i.Masters) }

// instanceProcesses looks through /proc for root's processes that start or hold the Apptainer instance name. Of
// command lines only those count that boxrun ran: with -c conf. Whoever is not root may call himself what he likes.
func instanceProcesses(name, conf string) (instanceProcs, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return instanceProcs{}, fmt.Errorf("looking for processes of instance %q: %w", name, err)
	}
	var found instanceProcs
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		argv := argvOf(pid)
		isMaster, isCLI := holdsInstance(argv, name), startsInstance(argv, name, conf)
		if !isMaster && !isCLI || !ownedByRoot(pid) {
			continue
		}
		p, err := openProcess(pid)
		switch {
		case err != nil: // it ended meanwhile
		case isMaster:
			found.Masters = append(found.Masters, p)
		case isCLI:
			found.CLI = append(found.CLI, p)
		}
	}
	return found, nil
}

// argvOf gives a process's argument vector; nil for one that is gone, a zombie, or the kernel's.
func argvOf(pid int) []string {
	text, err := os.ReadFile(procFile(pid, "cmdline"))
	text = bytes.TrimSuffix(text, []byte{0})
	if err != nil || len(text) == 0 {
		return nil
	}
	return strings.Split(string(text), "\x00")
}

// holdsInstance says whether argv is that of Apptainer's master of root's instance name.
func holdsInstance(argv []string, name string) bool {
	return len(argv) > 0 && argv[0] == masterTitle(name)
}

// startsInstance says whether argv is a command line of boxrun's that starts the instance. apptainer may be a script,
// and then stands second.
func startsInstance(argv []string, name, conf string) bool {
	at := slices.IndexFunc(argv, func(arg string) bool { return filepath.Base(arg) == "apptainer" })
	if at < 0 || at > 1 || argv[len(argv)-1] != name {
		return false
	}
	rest := argv[at+1:]
	return len(rest) > 4 && slices.Equal(rest[:4], []string{"-c", conf, "instance", "start"})
}

func ownedByRoot(pid int) bool {
	info, err := os.Stat(procFile(pid, ""))
	if err != nil {
		return false
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	return ok && owner.Uid == 0
}

// awaitOrEnd waits until no start of the instance is under way that boxrun ran with -c conf: until its command line
// is gone, and its master, if it made one, has booted the box. What has not come that far within timeout is killed.
// An instance that runs is left alone.
func awaitOrEnd(ctx context.Context, conf, name string, timeout time.Duration) error {
	began := time.Now()
	for {
		procs, err := instanceProcesses(name, conf)
		if err != nil {
			return err
		}
		settled, err := procs.settled()
		if err != nil || settled {
			return err
		}
		if time.Since(began) > timeout {
			return procs.end(ctx)
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// settled says whether nothing is being started: no command line runs, and each master is past the start. During it
// the master is a child of a process of its own name, and then has a child of its own name, which becomes the box's
// init with the last step.
func (i instanceProcs) settled() (bool, error) {
	if len(i.CLI) > 0 {
		return false, nil
	}
	for _, m := range i.Masters {
		parent, err := parentOf(m.PID)
		if errors.Is(err, os.ErrProcessDone) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		isMaster := func(p process) bool { return p.PID == parent }
		if slices.ContainsFunc(i.Masters, isMaster) || !hasChild(m.PID) {
			return false, nil
		}
	}
	return true, nil
}

func hasChild(pid int) bool {
	tasks, err := filepath.Glob(procFile(pid, "task/*/children"))
	if err != nil {
		return false
	}
	return slices.ContainsFunc(tasks, func(file string) bool {
		text, err := os.ReadFile(file)
		return err == nil && len(text) > 0
	})
}

// end kills the processes and waits until they are gone. The command line goes first: it must not report a success.
func (i instanceProcs) end(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, killTimeout)
	defer cancel()
	var errs []error
	for _, p := range i.all() {
		errs = append(errs, p.kill())
	}
	for _, p := range i.all() {
		errs = append(errs, p.wait(ctx))
	}
	return errors.Join(errs...)
}

// sleep waits for d; it returns early, with the cause, where ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// pause gives how long to wait before the next look at something waited for since began: a fiftieth of the time that
// went by, so that a wait is noticed to be over soon, in proportion, and a long one costs little.
func pause(began time.Time, least, most time.Duration) time.Duration {
	return min(max(time.Since(began)/50, least), most)
}
