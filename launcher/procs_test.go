package launcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"boxrun/launcher/testkit"
)

// running starts a program as testkit.Running does.
func running(t *testing.T, argv0, path string, args ...string) process {
	t.Helper()
	return opened(t, testkit.Running(t, argv0, path, args...))
}

// shell runs a script as testkit.Shell does.
func shell(t *testing.T, script string) process {
	t.Helper()
	return opened(t, testkit.Shell(t, script))
}

func opened(t *testing.T, pid int) process {
	t.Helper()
	p, err := openProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestParseStat(t *testing.T) {
	tail := " 1 173 173 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 99855 0 0"
	for name, text := range map[string]string{
		"plain":                 "174 (systemd) S" + tail,
		"a name with spaces":    "174 (a b (c) d) S" + tail,
		"a name like the state": "174 (x) Z 1 2 (y) S" + tail,
	} {
		t.Run(name, func(t *testing.T) {
			s, err := parseStat(text)
			testkit.WantText(t, fmt.Sprintf("%+v %v", s, err), "{state:S parent:1 start:99855} <nil>")
		})
	}
	for _, text := range []string{"", "174 (systemd) S 1", "174 (x) S a" + tail} {
		if _, err := parseStat(text); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}

func TestProcessEnds(t *testing.T) {
	p := shell(t, "READY; exec sleep 60")
	if !p.alive() {
		t.Fatal("a running process is not alive")
	}
	if err := p.kill(); err != nil {
		t.Fatal(err)
	}
	if err := p.wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	// It is a zombie now: the test has not reaped it.
	_, err := openProcess(p.PID)
	if p.alive() || !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("a zombie: alive %v, opened with %v", p.alive(), err)
	}
	if err := p.signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signalling a zombie: got %v, want %v", err, os.ErrProcessDone)
	}
	if err := p.kill(); err != nil {
		t.Errorf("killing it again: %v", err)
	}
}

// A number that belongs to another process by now is nobody we know.
func TestReusedNumber(t *testing.T) {
	p := shell(t, "READY; exec sleep 60")
	old := process{PID: p.PID, Start: p.Start - 1}
	if old.alive() {
		t.Error("the process of an earlier start is alive")
	}
	if err := old.kill(); err != nil {
		t.Error(err)
	}
	if err := old.wait(t.Context()); err != nil {
		t.Error(err)
	}
	time.Sleep(20 * time.Millisecond)
	if !p.alive() {
		t.Error("the process that has the number now was killed")
	}
}

func TestWaitEndsWithContext(t *testing.T) {
	p := shell(t, "READY; exec sleep 60")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if err := p.wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
	}
}

func TestHandles(t *testing.T) {
	p := shell(t, "trap : USR1; READY; sleep 60 & wait")
	// The shell blocks all signals while it forks.
	testkit.Eventually(t, "SIGUSR1 and no other is handled", func() bool {
		return handles(p, syscall.SIGUSR1) && !handles(p, syscall.SIGUSR2) && !handles(p, HaltSignal)
	})
	if handles(process{PID: 1 << 30}, HaltSignal) {
		t.Error("a process that is gone handles a signal")
	}
}

func TestArgvOfInstances(t *testing.T) {
	conf := "/run/boxrun/apptainer.conf"
	ours := []string{"apptainer", "-c", conf, "instance", "start", "--boot", "/srv/web", "web"}
	for name, test := range map[string]struct {
		argv        []string
		cli, master bool
	}{
		"our command line":             {ours, true, false},
		"by its path":                  {append([]string{"/usr/bin/apptainer"}, ours[1:]...), true, false},
		"a script":                     {append([]string{"/bin/sh"}, ours...), true, false},
		"of another box":               {append(ours[:7:7], "web2"), false, false},
		"of another configuration":     {[]string{"apptainer", "-c", "/etc/x", "instance", "start", "/srv/web", "web"}, false, false},
		"not ours":                     {[]string{"apptainer", "instance", "start", "--boot", "/srv/web", "web"}, false, false},
		"another verb":                 {[]string{"apptainer", "-c", conf, "instance", "list", "web"}, false, false},
		"an editor of a file so named": {[]string{"vi", "-x", "apptainer", "-c", conf, "instance", "start", "web"}, false, false},
		"cut short":                    {[]string{"apptainer"}, false, false},
		"the kernel's":                 {nil, false, false},
		"the master":                   {[]string{"Apptainer instance: root [web]"}, false, true},
		"another master":               {[]string{"Apptainer instance: root [web2]"}, false, false},
		"a user's master":              {[]string{"Apptainer instance: joe [web]"}, false, false},
		"a mention of the master":      {[]string{"grep", "Apptainer instance: root [web]"}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			got := fmt.Sprint(startsInstance(test.argv, "web", conf), holdsInstance(test.argv, "web"))
			testkit.WantText(t, got, fmt.Sprint(test.cli, test.master))
		})
	}
}

// fakeStart runs a script as the command line that starts the instance name.
func fakeStart(t *testing.T, conf, name, script string) process {
	t.Helper()
	file := filepath.Join(t.TempDir(), "apptainer")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return running(t, file, file, "-c", conf, "instance", "start", "--boot", "/srv/web", name)
}

func TestAwaitOrEnd(t *testing.T) {
	if os.Getuid() != 0 {
		testkit.Cannot(t, "processes of boxrun's are root's")
	}
	name, conf := testkit.UniqueName(t), "/run/boxrun/apptainer.conf"
	title := masterTitle(name)
	find := func() instanceProcs {
		t.Helper()
		procs, err := instanceProcesses(name, conf)
		if err != nil {
			t.Fatal(err)
		}
		return procs
	}

	// The master of another start has not come so far, and its command line takes a while.
	other := fakeStart(t, "/etc/other.conf", name, "sleep 60")
	master := running(t, title, "/bin/sh", "-c", "sleep 0.2; sleep 60 & wait")
	cli := fakeStart(t, conf, name, "sleep 0.3")
	want := fmt.Sprint(instanceProcs{CLI: []process{cli}, Masters: []process{master}})
	testkit.Eventually(t, "only "+want+" are found", func() bool { return fmt.Sprint(find()) == want }) // a fork has its parent's name
	if err := awaitOrEnd(t.Context(), conf, name, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if cli.alive() || !master.alive() {
		t.Errorf("after a start that ended by itself: command line alive %v, want false; master alive %v, want true", cli.alive(), master.alive())
	}

	stuck := fakeStart(t, conf, name, "sleep 60")
	if err := awaitOrEnd(t.Context(), conf, name, 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if stuck.alive() || master.alive() || !other.alive() {
		t.Errorf("after a start that hung: command line alive %v, want false; master %v, want false; the stranger's %v, want true",
			stuck.alive(), master.alive(), other.alive())
	}
	if err := awaitOrEnd(t.Context(), conf, name, time.Second); err != nil {
		t.Errorf("with nothing to wait for: %v", err)
	}
}

// During a start the master's child goes by the master's name until it becomes the box's init.
func TestStartIsNotSettledBeforeInit(t *testing.T) {
	if os.Getuid() != 0 {
		testkit.Cannot(t, "processes of boxrun's are root's")
	}
	name := testkit.UniqueName(t)
	title := masterTitle(name)
	parent := running(t, title, "/bin/bash", "-c", fmt.Sprintf("(exec -a %q sleep 60) & wait", title))
	var procs instanceProcs
	testkit.Eventually(t, "both run", func() bool {
		var err error
		procs, err = instanceProcesses(name, "")
		return err == nil && len(procs.Masters) == 2 && hasChild(parent.PID)
	})
	settled, err := procs.settled()
	testkit.WantText(t, fmt.Sprint(settled, err), "false <nil>")
}

func TestPauseGrows(t *testing.T) {
	var got []time.Duration
	for _, ago := range []time.Duration{0, time.Second, 5 * time.Second, time.Hour} {
		got = append(got, pause(time.Now().Add(-ago), 10*time.Millisecond, 250*time.Millisecond).Round(time.Millisecond))
	}
	testkit.WantText(t, fmt.Sprint(got), "[10ms 20ms 100ms 250ms]")
}

// handles is process.handles but for the moment of a fork.
func handles(p process, sig syscall.Signal) bool {
	yes, brief := p.handles(sig)
	return yes && !brief
}
