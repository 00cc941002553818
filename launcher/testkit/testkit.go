// Package testkit has what the tests of several rooms need: comparing text, waiting for what happens, skipping where the
// machine lacks something, and small processes and trees to look at. Only tests import testkit, and testkit imports no room,
// so that the tests of every room can.
package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"boxrun/profiles"
	"boxrun/profiles/port"
)

// WantText fails the test where got is not want.
func WantText(t testing.TB, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// Cannot skips a test and says why. Where CI is set the test fails instead.
func Cannot(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// Eventually waits until is returns true, and fails the test after 5 s.
func Eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for began := time.Now(); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Since(began) > 5*time.Second {
			t.Fatalf("not within 5s: %s", what)
		}
	}
}

// Running starts the program path under the name argv0 in a process group of its own, and returns the pid. The group is
// killed at the end of the test.
func Running(t testing.TB, argv0, path string, args ...string) int {
	t.Helper()
	cmd := exec.Command(path, args...)
	cmd.Args[0] = argv0
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

// Shell runs a script of the shell as Running does, and returns when the script has come to the word READY.
func Shell(t testing.TB, script string) int {
	t.Helper()
	mark := filepath.Join(t.TempDir(), "ready")
	pid := Running(t, "sh", "/bin/sh", "-c", strings.ReplaceAll(script, "READY", "echo > "+mark))
	Eventually(t, "the script is ready", func() bool { _, err := os.Stat(mark); return err == nil })
	return pid
}

// Wait returns how a command ended. The command is killed after 15 s.
func Wait(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	timer := time.AfterFunc(15*time.Second, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	_ = cmd.Wait() // the state says how
	return cmd.ProcessState.String()
}

// UniqueName returns a name that no other run of the tests uses at the same time.
func UniqueName(t testing.TB) string {
	return fmt.Sprintf("t%d%s", os.Getpid(), strings.ToLower(t.Name()))
}

// Names returns the names of the files in dir, sorted.
func Names(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// Tree returns a line for each file below dir: mode, path, target of a link, content.
func Tree(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		link, _ := os.Readlink(path)
		text := []byte{}
		if info.Mode().IsRegular() {
			text, err = os.ReadFile(path)
		}
		fmt.Fprintf(&b, "%v %s %s %q\n", info.Mode(), rel, link, text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Links makes symbolic links below root, and the directories above them. targets has the target of each path.
func Links(t testing.TB, root string, targets map[string]string) {
	t.Helper()
	for name, target := range targets {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
	}
}

// Fifo makes a pipe with a name. After 5 s the pipe is opened for writing, so that a reader who waits fails and does not hang.
func Fifo(t testing.TB, path string) {
	t.Helper()
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	end := time.AfterFunc(5*time.Second, func() {
		if fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK, 0); err == nil {
			unix.Close(fd)
		}
	})
	t.Cleanup(func() { end.Stop() })
}

// Profile returns the default profile under a name, changed by change.
func Profile(name string, change func(*profiles.Profile)) profiles.Profile {
	p := profiles.Default()
	p.Name, p.File = name, "/etc/boxrun/profiles/"+name+".toml"
	p.Network.Subnet6 = "" // would be another on each machine
	change(&p)
	return p
}

// Ports returns a change of a profile that adds ports, in the words of network.ports.
func Ports(specs ...string) func(*profiles.Profile) {
	return func(p *profiles.Profile) {
		for _, spec := range specs {
			port, err := port.Parse(spec)
			if err != nil {
				panic(err)
			}
			p.Network.Ports = append(p.Network.Ports, port)
		}
	}
}
