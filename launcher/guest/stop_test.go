package guest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"boxrun/launcher/process"
	"boxrun/launcher/processtest"
	"boxrun/launcher/say"
	"boxrun/launcher/testkit"
)

// cleanInit does as systemd does: it ends on the halt signal.
const cleanInit = `trap 'exit 0' 37; READY; while :; do sleep 0.05; done`

// busyInit has a handler, and takes no notice.
const busyInit = `trap : 37; READY; while :; do sleep 0.05; done`

// masterOf is a master: it ends when the process does.
func masterOf(t *testing.T, p process.Process) process.Process {
	t.Helper()
	// A zombie counts as gone, so the script looks at the state.
	return processtest.Shell(t, fmt.Sprintf(`READY; while grep -q 'State:.[^Z]' /proc/%d/status; do sleep 0.02; done`, p.PID))
}

// shortTimes are usualTimes, but an init is soon taken for deaf, and the live line comes soon.
func shortTimes() times {
	short := usualTimes()
	short.handler, short.quiet = 300*time.Millisecond, 50*time.Millisecond
	return short
}

func stop(t *testing.T, init, master process.Process, timeout time.Duration) (lines []string, took time.Duration, killed error) {
	t.Helper()
	began := time.Now()
	s := stopping{init: init, master: master, timeout: timeout, times: shortTimes()}
	s.live = say.NewLive(func(line string) { lines = append(lines, line) })
	killed, err := s.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if init.Alive() || master.Alive() {
		t.Errorf("init alive %v, master alive %v", init.Alive(), master.Alive())
	}
	return lines, time.Since(began), killed
}

func TestStopClean(t *testing.T) {
	t.Parallel()
	init := processtest.Shell(t, cleanInit)
	lines, took, killed := stop(t, init, masterOf(t, init), 10*time.Second)
	if killed != nil {
		t.Errorf("killed, as %v, after %q", killed, lines)
	}
	if took > 8*time.Second {
		t.Errorf("it took %v", took)
	}
	lines, _, killed = stop(t, init, init, time.Second)
	testkit.WantText(t, fmt.Sprint(killed, lines), "<nil> []") // twice is no error
}

func TestStopKillsAfterTimeout(t *testing.T) {
	t.Parallel()
	init := processtest.Shell(t, busyInit)
	lines, took, killed := stop(t, init, masterOf(t, init), 1200*time.Millisecond)
	if !errors.Is(killed, errSlow) || took < 1200*time.Millisecond || took > 10*time.Second {
		t.Errorf("killed, as %v, after %v, want %v after 1.2s", killed, took, errSlow)
	}
	if len(lines) < 3 || lines[len(lines)-1] != "" {
		t.Fatalf("got lines %q, want three and an empty one", lines)
	}
	testkit.WantText(t, strings.Join(lines[:3], "\n"),
		"waiting for the box to stop\nwaiting for the box to stop (1s)\nkilling the box")
}

// An init that is only just starting has no handler yet: the kernel would drop the signal.
func TestStopWaitsForTheHandler(t *testing.T) {
	t.Parallel()
	init := processtest.Shell(t, `READY; sleep 0.1; trap 'exit 0' 37; while :; do sleep 0.05; done`)
	_, took, killed := stop(t, init, masterOf(t, init), 10*time.Second)
	if killed != nil || took < 50*time.Millisecond {
		t.Errorf("killed, as %v, after %v, want no kill after 0.1s", killed, took)
	}
}

// A first process that is boxrun's own takes in the signal and drops it: the image's init is waited for.
func TestStopWaitsForTheImage(t *testing.T) {
	t.Parallel()
	init := processtest.Shell(t, `BOXRUN_CONFINE={} exec sh -c "trap : 37; READY; sleep 0.1; exec env -u BOXRUN_CONFINE sh -c 'trap \"exit 0\" 37; while :; do sleep 0.05; done'"`)
	if _, _, killed := stop(t, init, masterOf(t, init), 10*time.Second); killed != nil {
		t.Errorf("killed, as %v, want no kill", killed)
	}
}

// An init that never has a handler is killed long before the stop timeout, and the error says why.
func TestStopOfADeafInit(t *testing.T) {
	t.Parallel()
	init := processtest.Shell(t, `READY; while :; do sleep 0.05; done`)
	_, took, killed := stop(t, init, masterOf(t, init), time.Minute)
	if !errors.Is(killed, deaf{"SIGRTMIN+3"}) || took > 30*time.Second {
		t.Errorf("killed, as %v, after %v, want %v after 0.3s", killed, took, deaf{"SIGRTMIN+3"})
	}
	testkit.WantText(t, KilledProblem("web", time.Minute, killed).Error(),
		"web was killed: its init takes no notice of SIGRTMIN+3, which tells a box to stop")
	testkit.WantText(t, KilledProblem("web", time.Minute, errSlow).Error(), "web did not stop within 1m0s and was killed")
}

// With a timeout of zero, init is killed at once, without a halt signal.
func TestStopWithoutTime(t *testing.T) {
	t.Parallel()
	for _, script := range []string{cleanInit, `READY; while :; do sleep 0.05; done`} {
		init := processtest.Shell(t, script)
		_, took, killed := stop(t, init, masterOf(t, init), 0)
		if !errors.Is(killed, errSlow) || took > 3*time.Second {
			t.Errorf("killed, as %v, after %v, want %v at once", killed, took, errSlow)
		}
	}
}

func TestStopIsCalledOff(t *testing.T) {
	t.Parallel()
	init := processtest.Shell(t, busyInit)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	killed, err := Stop(ctx, init, masterOf(t, init), "", time.Minute, nil)
	if killed != nil || !errors.Is(err, context.DeadlineExceeded) || !init.Alive() {
		t.Errorf("killed %v, %v, alive %v; want nil, %v, true", killed, err, init.Alive(), context.DeadlineExceeded)
	}
}

// ownScope makes a cgroup below the test's own, which goes with the test.
func ownScope(t *testing.T) string {
	t.Helper()
	path, err := process.CgroupPath(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(process.CgroupMount(), path, "boxrun-"+testkit.UniqueName(t))
	if err := os.MkdirAll(filepath.Join(dir, "init.scope"), 0o755); err != nil || process.CgroupMount() == "" {
		testkit.Cannot(t, "no cgroup can be made here: %v", err)
	}
	t.Cleanup(func() {
		if err := process.RemoveTree(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func moveTo(t *testing.T, p process.Process, cgroup string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(cgroup, "cgroup.procs"), []byte(strconv.Itoa(p.PID)), 0o644); err != nil {
		testkit.Cannot(t, "no process can be moved to a cgroup here: %v", err)
	}
}

// All of the box goes with its cgroup, and only what is in it.
func TestStopKillsTheCgroup(t *testing.T) {
	t.Parallel()
	dir := ownScope(t)
	init, service, stranger := processtest.Shell(t, busyInit), processtest.Shell(t, busyInit), processtest.Shell(t, busyInit)
	moveTo(t, init, filepath.Join(dir, "init.scope"))
	moveTo(t, service, dir)
	own, err := process.CgroupOf(init.PID)
	testkit.WantText(t, fmt.Sprintf("%s %v", own, err), dir+" <nil>")

	killed, err := Stop(t.Context(), init, masterOf(t, init), own, 100*time.Millisecond, nil)
	if !errors.Is(killed, errSlow) || err != nil {
		t.Fatal(killed, err)
	}
	if init.Alive() || service.Alive() || !stranger.Alive() {
		t.Errorf("init alive %v, service alive %v, want false; stranger alive %v, want true", init.Alive(), service.Alive(), stranger.Alive())
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the cgroup is still there: %v", err)
	}
}

// A cgroup that init is not in, by whatever mistake, is nothing to kill.
func TestStopSparesAStrangersCgroup(t *testing.T) {
	t.Parallel()
	dir := ownScope(t)
	init, stranger := processtest.Shell(t, busyInit), processtest.Shell(t, busyInit)
	moveTo(t, stranger, dir)
	if err := killBox(t.Context(), init, dir); err != nil {
		t.Fatal(err)
	}
	if init.Alive() || !stranger.Alive() {
		t.Errorf("init alive %v, want false; stranger alive %v, want true", init.Alive(), stranger.Alive())
	}
}
