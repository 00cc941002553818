package box

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"boxrun/launcher/files"
	"boxrun/launcher/testkit"
)

func noWait(t *testing.T) func(string) {
	return func(holder string) { t.Helper(); t.Errorf("waited for %s", holder) }
}

func TestLockKeepsOthersOut(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "locks")
	unlock, err := takeLock(t.Context(), dir, "box-web", noWait(t))
	if err != nil {
		t.Fatal(err)
	}
	free, err := takeLock(t.Context(), dir, "box-db", noWait(t)) // another name is another lock
	if err != nil {
		t.Fatal(err)
	}
	free()

	if _, err := takeLock(t.Context(), dir, "box-web", nil); !errors.Is(err, ErrBusy) {
		t.Errorf("got %v, want %v", err, ErrBusy)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
	defer cancel()
	_, err = takeLock(ctx, dir, "box-web", noWait(t)) // boxes side by side in a process take turns without a word
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
	}

	time.AfterFunc(50*time.Millisecond, unlock)
	unlock2, err := takeLock(t.Context(), dir, "box-web", func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	unlock2()
	unlock3, err := takeLock(t.Context(), dir, "box-web", nil) // a lock given back is free at once
	if err != nil {
		t.Fatal(err)
	}
	unlock3()
}

// A lock file without a holder would stay for good, and keep the state's directory.
func TestLockGivenUpLeavesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "locks")
	why := errors.New("not needed any more")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if _, err := takeLock(ctx, dir, "box-web", noWait(t)); !errors.Is(err, why) {
		t.Errorf("got %v, want %v", err, why)
	}
	if files.Exists(dir) {
		t.Errorf("there is %s", dir)
	}
}

// The holder of a box's lock sees who waits to take the box down, and nobody else who waits or has waited.
func TestAStopIsWanted(t *testing.T) {
	for _, next := range []struct {
		lock   func(*Store, context.Context, string) (func(), error)
		wanted bool
	}{{(*Store).LockBox, false}, {(*Store).LockToStop, true}} {
		s := &Store{Dir: t.TempDir(), Note: func(string) {}}
		unlock, err := s.LockBox(t.Context(), "web")
		if err != nil {
			t.Fatal(err)
		}
		turn := make(chan func())
		go func() {
			unlock, err := next.lock(s, t.Context(), "web")
			if err != nil {
				t.Error(err)
			}
			turn <- unlock
		}()
		for began := time.Now(); !isAwaited(t, s); time.Sleep(time.Millisecond) {
			if time.Since(began) > time.Minute {
				t.Fatal("nobody waits for the lock")
			}
		}
		if got := s.StopWanted("web"); got != next.wanted {
			t.Errorf("a stop is wanted: %v, want %v", got, next.wanted)
		}
		unlock()
		unlock = <-turn
		if s.StopWanted("web") {
			t.Error("a stop is wanted after the wait")
		}
		unlock()
	}
}

// isAwaited reports whether somebody waits for the lock of the box web.
func isAwaited(t *testing.T, s *Store) bool {
	t.Helper()
	f, err := os.Open(s.lockPath("web"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return awaited(f)
}

// Who has waited longest is the next, however many come later, and though someone in between has given up.
func TestLockIsForTheFirstWhoWaits(t *testing.T) {
	for range 5 {
		dir := t.TempDir()
		unlock, err := takeLock(t.Context(), dir, "box-web", noWait(t))
		if err != nil {
			t.Fatal(err)
		}
		tired, giveUp := context.WithCancel(t.Context())
		served, looked := make(chan string, 8), make(chan struct{})
		var all sync.WaitGroup
		wait := func(ctx context.Context, who string, queued int) {
			all.Go(func() {
				unlock, err := takeLock(ctx, dir, "box-web", noWait(t))
				served <- who
				<-looked
				if err == nil {
					unlock()
				}
			})
			testkit.Eventually(t, who+" waits", func() bool { return waiters(t, dir) == queued })
		}
		wait(tired, "tired", 1)
		wait(t.Context(), "first", 2)
		for i := range 6 {
			wait(t.Context(), "later", 3+i)
		}
		giveUp()
		testkit.WantText(t, <-served, "tired")
		held, err := os.Stat(filepath.Join(dir, "box-web.lock"))
		if err != nil {
			t.Fatal(err)
		}
		unlock()
		testkit.WantText(t, <-served, "first")
		if now, err := os.Stat(filepath.Join(dir, "box-web.lock")); err != nil || !os.SameFile(held, now) {
			t.Errorf("the file was removed while others waited, who came anew: %v", err)
		}
		close(looked)
		all.Wait()
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("a lock is left: %v", left)
		}
	}
}

// waiters counts those whom the kernel has in the queue for the lock box-web.
func waiters(t *testing.T, dir string) int {
	t.Helper()
	var info unix.Stat_t
	if err := unix.Stat(filepath.Join(dir, "box-web.lock"), &info); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("/proc/locks")
	if err != nil {
		t.Fatal(err)
	}
	file := regexp.MustCompile(fmt.Sprintf(`-> FLOCK .*:%d `, info.Ino))
	return len(file.FindAll(text, -1))
}

func TestLockIsForRoot(t *testing.T) {
	dir := t.TempDir()
	unlock, err := takeLock(t.Context(), dir, "box-web", noWait(t))
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	info, err := os.Stat(filepath.Join(dir, "box-web.lock"))
	if err != nil {
		t.Fatal(err)
	}
	testkit.WantText(t, info.Mode().String(), "-rw-------")
}

// Apptainer passes inherited descriptors on to the box: a lock among them would live as long as the box.
func TestLockIsNotInherited(t *testing.T) {
	dir := t.TempDir()
	unlock, err := takeLock(t.Context(), dir, "box-web", noWait(t))
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	open, err := exec.Command("/bin/sh", "-c", "ls -l /proc/$$/fd").Output()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(open), dir) {
		t.Errorf("a child has the lock open:\n%s", open)
	}
}

// TestLockHolder is no test, but the other process of TestLockDiesWithItsHolder.
func TestLockHolder(t *testing.T) {
	dir := os.Getenv("BOXRUN_TEST_LOCKS")
	if dir == "" {
		t.Skip("run by TestLockDiesWithItsHolder")
	}
	if _, err := takeLock(t.Context(), dir, "box-web", noWait(t)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "held"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Minute)
}

func TestLockDiesWithItsHolder(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestLockHolder$")
	cmd.Env = append(os.Environ(), "BOXRUN_TEST_LOCKS="+dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	testkit.Eventually(t, "the other process has the lock", func() bool { _, err := os.Stat(filepath.Join(dir, "held")); return err == nil })

	told := ""
	unlock, err := takeLock(t.Context(), dir, "box-web", func(holder string) {
		told = holder
		cmd.Process.Kill()
	})
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	testkit.WantText(t, told, fmt.Sprintf("exe -test.run=^TestLockHolder$ (pid %d)", cmd.Process.Pid))
}
