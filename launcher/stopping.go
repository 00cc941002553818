package launcher

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	handlerTimeout = 10 * time.Second       // for an init that is starting to be ready for the halt signal
	forkTime       = time.Second            // longer than a fork takes on a busy machine
	masterTimeout  = 15 * time.Second       // for Apptainer's master to clean up: CNI gets 5 s for all of it (pkg/network)
	narrateAfter   = 300 * time.Millisecond // an idle box stops in less
	nudgeEvery     = 50 * time.Millisecond
)

// killTimeout is how long a killed process may take to be gone.
const killTimeout = 10 * time.Second

// scopeTimeout is how long the host's systemd may take to remove a scope that is empty.
const scopeTimeout = 500 * time.Millisecond

// stopBox stops a box: it tells init to go and waits, for at most timeout; then it kills the box's whole cgroup. After
// that it waits until Apptainer's master has taken the box's network down and its record away, and kills that too
// where it hangs. Neither process needs to run any more. killed says why the box had to be: errSlow or errDeaf, nil
// where it stopped. When ctx ends stopBox returns its cause; an init that has been told to go still goes.
//
// cgroup is the box's own as cgroupOf gave it, "" where it has none. It is gone when stopBox returns without error.
// live shows what is waited for, as "waiting for nginx.service to stop (3s)", and "" at the end.
func stopBox(ctx context.Context, init, master process, cgroup string, timeout time.Duration, live func(string)) (killed, err error) {
	line := newLiveLine(live)
	defer line.end()
	killed, err = stopInit(ctx, init, cgroup, timeout, line)
	if err != nil {
		return killed, err
	}
	if err := endMaster(ctx, master, line); err != nil {
		return killed, err
	}
	return killed, removeCgroup(ctx, cgroup)
}

// stopInit halts the box, and kills it where it has not halted within timeout.
func stopInit(ctx context.Context, init process, cgroup string, timeout time.Duration, line *liveLine) (killed, err error) {
	soft, cancel := context.WithTimeoutCause(ctx, timeout, errSlow)
	defer cancel()
	told := make(chan struct{})
	go func() {
		defer close(told)
		narrateStop(soft, init.PID, line)
	}()
	go nudge(soft, init)
	err = halt(soft, init)
	cancel()
	<-told // nothing is said after the return
	if ctx.Err() != nil || !errors.Is(err, errSlow) && !errors.Is(err, errDeaf) {
		return nil, err
	}
	line.say("killing the box")
	return err, killBox(ctx, init, cgroup)
}

// Why a box is killed.
var (
	errSlow = errors.New("it did not stop in time")
	errDeaf = errors.New("its init takes no notice of SIGRTMIN+3, which tells a box to stop")
)

// halt tells init to stop and waits until it is gone, or ctx ends. An init that has no handler yet, because it is only
// just starting, would never see the signal: it is sent when there is one. There being none for long it never will be,
// as with a shell script, and there is nothing to wait for: errDeaf. When ctx ends the error is its cause.
func halt(ctx context.Context, init process) error {
	if err := awaitHandler(ctx, init); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := init.signal(HaltSignal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return init.wait(ctx)
}

// awaitHandler waits until init has a handler for the halt signal, or reads it otherwise. errDeaf: it has none for long.
func awaitHandler(ctx context.Context, init process) error {
	ctx, cancel := context.WithTimeoutCause(ctx, handlerTimeout, errDeaf)
	defer cancel()
	began := time.Now()
	for without := began; init.alive(); { // the last time it was seen without one
		yes, brief := init.handles(HaltSignal)
		if yes && (!brief || time.Since(without) > forkTime) {
			return nil
		}
		if !yes {
			without = time.Now()
		}
		if err := sleep(ctx, pause(began, 2*time.Millisecond, 50*time.Millisecond)); err != nil {
			return err
		}
	}
	return nil
}

// nudge has systemd-shutdown, which systemd becomes at the end, look again whether the processes it told to end have ended. Of
// those that came from outside, such as the journalctl of "boxrun logs -f", the kernel tells it nothing, and it would look
// again after ten seconds.
func nudge(ctx context.Context, init process) {
	for sleep(ctx, nudgeEvery) == nil {
		exe, err := os.Readlink(procFile(init.PID, "exe"))
		if err == nil && filepath.Base(exe) == "systemd-shutdown" {
			_ = init.signal(unix.SIGCHLD) // gone meanwhile: all the better
		}
	}
}

// narrateStop shows which unit the box's systemd waits for, until ctx ends.
func narrateStop(ctx context.Context, pid int, line *liveLine) {
	began := time.Now()
	var s *systemd
	for sleep(ctx, narrateAfter) == nil {
		if s == nil {
			s, _ = dialSystemd(ctx, pid) // there may be none; the line then says less
		}
		line.say(stopLine(ctx, s, time.Since(began)))
	}
	if s != nil {
		s.Close()
	}
}

func stopLine(ctx context.Context, s *systemd, took time.Duration) string {
	if s != nil {
		if unit, since, err := s.Waiting(ctx, true); err == nil && unit != "" {
			return "waiting for " + unit + " to stop" + seconds(since)
		}
	}
	return "waiting for the box to stop" + seconds(took)
}

// killBox kills all that runs in the box. Killing its init is enough for that, as it is PID 1 of the box's PID
// namespace; killing the cgroup does not wait for init to be scheduled, and is left out where the kernel cannot do it
// (before Linux 5.14) or the cgroup is not certainly the box's.
func killBox(ctx context.Context, init process, cgroup string) error {
	ctx, cancel := context.WithTimeout(ctx, killTimeout)
	defer cancel()
	if err := killCgroup(init, cgroup); err != nil {
		return err
	}
	if err := init.kill(); err != nil {
		return err
	}
	if err := init.wait(ctx); err != nil {
		return fmt.Errorf("waiting for the end of killed process %d: %w", init.PID, err)
	}
	return nil
}

// killCgroup kills the box's cgroup where init is in it, alone: the path was noted when the box started, and may name
// something else by now.
func killCgroup(init process, cgroup string) error {
	if cgroup == "" {
		return nil
	}
	if now, err := cgroupOf(init.PID); err != nil || now != cgroup {
		return ignoreDone(err)
	}
	f, err := os.OpenFile(filepath.Join(cgroup, "cgroup.kill"), os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("killing the box's cgroup: %w", err)
	}
	_, err = f.WriteString("1")
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("killing the box's cgroup: %w", err)
	}
	return nil
}

// endMaster waits for Apptainer's master, and kills it where it hangs, as it does on a host without a system bus: it wants to
// tell systemd that the scope has ended. The box has stopped by then, and lost nothing.
func endMaster(ctx context.Context, master process, line *liveLine) error {
	soft, cancel := context.WithTimeout(ctx, masterTimeout)
	defer cancel()
	defer time.AfterFunc(narrateAfter, func() { line.say("waiting for Apptainer to clean up") }).Stop()
	if err := master.wait(soft); err == nil || ctx.Err() != nil {
		return err
	}
	if err := master.kill(); err != nil {
		return err
	}
	hard, cancel := context.WithTimeout(ctx, killTimeout)
	defer cancel()
	return master.wait(hard)
}

// cgroupOf gives the directory of the cgroup that a box has to itself, its init being the process pid, a child of
// Apptainer's master; "" where it has none: in a cgroup that holds boxrun or the master too, or is the root, or lies
// outside of what is mounted here. os.ErrProcessDone where there is no such process. systemd puts itself
// into init.scope below the cgroup it was started in.
func cgroupOf(pid int) (string, error) {
	parent, err := parentOf(pid)
	if err != nil {
		return "", err
	}
	paths := make([]string, 3)
	for i, p := range []int{pid, parent, os.Getpid()} {
		if paths[i], err = cgroupPath(p); err != nil {
			return "", err
		}
	}
	own, ok := ownCgroup(paths[0], paths[1:])
	mount := cgroupMount()
	if !ok || mount == "" {
		return "", nil
	}
	return filepath.Join(mount, own), nil
}

// ownCgroup gives the cgroup of a box whose init is in path; ok is false where one of others is in it as well, or it is
// not below the root.
func ownCgroup(path string, others []string) (own string, ok bool) {
	own = strings.TrimSuffix(path, "/init.scope")
	if own == "" || own == "/" || strings.HasPrefix(own, "/..") {
		return "", false
	}
	for _, other := range others {
		if other == own || strings.HasPrefix(other, own+"/") {
			return "", false
		}
	}
	return own, true
}

// cgroupPath gives a process's cgroup of the second version, as /proc/PID/cgroup has it; "/" where there is none.
func cgroupPath(pid int) (string, error) {
	text, err := os.ReadFile(procFile(pid, "cgroup"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return "", fmt.Errorf("reading the cgroup of process %d: %w", pid, os.ErrProcessDone)
	}
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			return path, nil
		}
	}
	return "/", nil
}

// cgroupMount gives where cgroups of the second version are mounted, beside those of the first on older hosts; "" where
// they are not.
func cgroupMount() string {
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var fs unix.Statfs_t
		if err := unix.Statfs(dir, &fs); err == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC {
			return dir
		}
	}
	return ""
}

// removeCgroup removes the cgroup of a box that is gone, and what systemd left below it. On a host run by systemd it is
// a scope, which systemd removes itself.
func removeCgroup(ctx context.Context, cgroup string) error {
	if cgroup == "" {
		return nil
	}
	for began := time.Now(); time.Since(began) < scopeTimeout; {
		if _, err := os.Lstat(cgroup); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err := sleep(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	if populated(cgroup) { // by then another box's, or of a command that somebody runs in it
		return nil
	}
	return removeTree(cgroup)
}

// populated says whether a process is in the cgroup or below it.
func populated(cgroup string) bool {
	events, err := os.ReadFile(filepath.Join(cgroup, "cgroup.events"))
	return err == nil && strings.Contains(string(events), "populated 1")
}

// removeTree removes a cgroup and those below it. What is in them besides directories cannot be removed and goes along.
func removeTree(cgroup string) error {
	entries, err := os.ReadDir(cgroup)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("removing cgroup: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(cgroup, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := unix.Rmdir(cgroup); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("removing cgroup %s: %w", cgroup, err)
	}
	return nil
}

func ignoreDone(err error) error {
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}
