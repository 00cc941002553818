package guest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"boxrun/launcher/process"
	"boxrun/launcher/testkit"
)

// initNamed runs a script as an init with the name. Waiting, the init starts no process, so that a script knows its children,
// and whoever looks sees no other.
func initNamed(t *testing.T, name, script string) process.Process {
	t.Helper()
	sh, err := filepath.EvalSymlinks("/bin/bash")
	if err != nil {
		testkit.Cannot(t, "no bash here")
	}
	text, err := os.ReadFile(sh)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	exe, ready := filepath.Join(dir, name), filepath.Join(dir, "ready")
	if err := os.WriteFile(exe, text, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-c", "exec 3<> <(:); "+script+"; : > "+ready+"; while :; do read -rt 0.05 -u 3; done")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	testkit.Eventually(t, "the init is ready", func() bool { _, err := os.Stat(ready); return err == nil })
	p, err := process.Open(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// An init gets the signal that stops it, not systemd's.
func TestStopSendsTheInitsOwnSignal(t *testing.T) {
	for name, script := range map[string]string{
		"busybox": "trap 'exit 0' USR2", "openrc-init": "trap 'exit 0' TERM", "init": "trap 'exit 0' INT", "other": "trap 'exit 0' 37",
	} {
		init := initNamed(t, name, script)
		if lines, took, killed := stop(t, init, masterOf(t, init), time.Minute); killed != nil {
			t.Errorf("%s: killed, as %v, after %v and %q", name, killed, took, lines)
		}
	}
}

// An init that boots, and forgets what it is told, is told again.
func TestStopTellsAnInitThatForgetsAgain(t *testing.T) {
	init := initNamed(t, "finit", "trap '((++told == 3)) && exit 0' TERM")
	if lines, took, killed := stop(t, init, masterOf(t, init), time.Minute); killed != nil {
		t.Errorf("killed, as %v, after %v and %q", killed, took, lines)
	}
}

// An init that cannot end itself is ended when nothing else runs, before the timeout, after which it would count as killed.
func TestStopEndsAnInitThatHasStoppedAllElse(t *testing.T) {
	init := initNamed(t, "busybox", "trap 'sleep 60 & kill $!' USR2")
	if lines, took, killed := stop(t, init, masterOf(t, init), time.Minute); killed != nil {
		t.Errorf("killed, as %v, after %v and %q", killed, took, lines)
	}
}

func TestOtherInit(t *testing.T) {
	testkit.WantText(t, OtherInit(initNamed(t, "busybox", ":")), "its init is busybox, not systemd: a stop sends SIGUSR2")
	testkit.WantText(t, OtherInit(initNamed(t, "runit", ":")), "its init is runit, not systemd: a stop sends SIGCONT")
	testkit.WantText(t, OtherInit(initNamed(t, "init", ":")), "its init is init, not systemd: a stop sends SIGINT")
	testkit.WantText(t, OtherInit(initNamed(t, "init", "trap : 37")),
		"its init is init, not systemd: a stop sends SIGRTMIN+3, and kills the box after 10s without a handler")
	testkit.WantText(t, OtherInit(initNamed(t, "other", ":")),
		"its init is other, not systemd: a stop sends SIGRTMIN+3, and kills the box after 10s without a handler")
	testkit.WantText(t, OtherInit(initNamed(t, "systemd", ":")), "")
	testkit.WantText(t, OtherInit(process.Process{PID: 1 << 30}), "")
}
