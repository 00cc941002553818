package confine

import (
	"context"
	"os/exec"
	"testing"
	"time"

	"boxrun/launcher/process"
)

// started runs sleep with an environment, and returns in the middle of the exec: Apptainer writes its record then, too.
func started(t *testing.T, env ...string) process.Process {
	t.Helper()
	cmd := exec.Command("/bin/sleep", "60")
	cmd.Env = append([]string{}, env...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	p, err := process.Open(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// boxrun, as the first process of a box, is not taken for the image's init while the kernel still executes boxrun. An image's
// init may have no variable at all.
func TestAwaitImage(t *testing.T) {
	for range 100 {
		p := started(t, variable+"={}")
		if told, err := isTold(p.PID); !told || err != nil {
			t.Fatalf("the first process counts as the image's init, error %v", err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, env := range [][]string{{}, {"PATH=/bin"}} {
		if err := AwaitImage(ctx, started(t, env...)); err != nil {
			t.Errorf("an image's init with the environment %q: %v", env, err)
		}
	}
}
