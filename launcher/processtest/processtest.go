package processtest

import (
	"testing"

	"boxrun/launcher/process"
	"boxrun/launcher/testkit"
)

// Running starts a program as testkit.Running does.
func Running(t testing.TB, argv0, path string, args ...string) process.Process {
	t.Helper()
	return opened(t, testkit.Running(t, argv0, path, args...))
}

// Shell runs a script as testkit.Shell does.
func Shell(t testing.TB, script string) process.Process {
	t.Helper()
	return opened(t, testkit.Shell(t, script))
}

func opened(t testing.TB, pid int) process.Process {
	t.Helper()
	p, err := process.Open(pid)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
