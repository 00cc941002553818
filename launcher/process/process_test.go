package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"boxrun/launcher/testkit"
)

func TestParseStat(t *testing.T) {
	tail := " 1 173 173 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 99855 0 0" + strings.Repeat(" 0", 23) + " 7 8 9 9 0"
	for name, text := range map[string]string{
		"plain":                 "174 (systemd) S" + tail,
		"a name with spaces":    "174 (a b (c) d) S" + tail,
		"a name like the state": "174 (x) Z 1 2 (y) S" + tail,
	} {
		t.Run(name, func(t *testing.T) {
			s, err := parseStat(text)
			testkit.WantText(t, fmt.Sprintf("%+v %v", s, err), "{state:S parent:1 start:99855 env:[9 9]} <nil>")
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
	if !p.Alive() {
		t.Fatal("a running process is not alive")
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	// It is a zombie now: the test has not reaped it.
	_, err := Open(p.PID)
	if p.Alive() || !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("a zombie: alive %v, opened with %v", p.Alive(), err)
	}
	if err := p.Signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signalling a zombie: got %v, want %v", err, os.ErrProcessDone)
	}
	if err := p.Kill(); err != nil {
		t.Errorf("killing it again: %v", err)
	}
}

// The kernel may have given the number to another process: the saved start time tells them apart.
func TestReusedNumber(t *testing.T) {
	p := shell(t, "READY; exec sleep 60")
	old := Process{PID: p.PID, Start: p.Start - 1}
	if old.Alive() {
		t.Error("the process of an earlier start is alive")
	}
	if err := old.Kill(); err != nil {
		t.Error(err)
	}
	if err := old.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	time.Sleep(20 * time.Millisecond)
	if !p.Alive() {
		t.Error("the process that has the number now was killed")
	}
}

func TestWaitEndsWithContext(t *testing.T) {
	p := shell(t, "READY; exec sleep 60")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if err := p.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
	}
}

func TestHandles(t *testing.T) {
	p := shell(t, "trap : USR1; READY; sleep 60 & wait")
	// The shell blocks all signals while it forks.
	testkit.Eventually(t, "SIGUSR1 and no other is handled", func() bool {
		return handles(p, syscall.SIGUSR1) && !handles(p, syscall.SIGUSR2) && !handles(p, HaltSignal)
	})
	if handles(Process{PID: 1 << 30}, HaltSignal) {
		t.Error("a process that is gone handles a signal")
	}
}

// A signal that a process waits for is heard, though the kernel shows the signal as neither caught nor blocked.
func TestHandlesWhatIsWaitedFor(t *testing.T) {
	thread := make(chan int)
	go func() {
		runtime.LockOSThread()
		thread <- unix.Gettid()
		set, most := uint64(1)<<(syscall.SIGUSR2-1), unix.NsecToTimespec(int64(time.Hour))
		for errno := syscall.EINTR; errno == syscall.EINTR; {
			_, _, errno = unix.Syscall6(unix.SYS_RT_SIGTIMEDWAIT, uintptr(unsafe.Pointer(&set)), 0, uintptr(unsafe.Pointer(&most)), 8, 0, 0)
		}
	}()
	pid := <-thread
	testkit.Eventually(t, "SIGUSR2 is waited for", func() bool { return waitsFor(pid, syscall.SIGUSR2) })
	if waitsFor(pid, syscall.SIGUSR1) {
		t.Error("another signal is waited for")
	}
}

func TestPauseGrows(t *testing.T) {
	var got []time.Duration
	for _, ago := range []time.Duration{0, time.Second, 5 * time.Second, time.Hour} {
		got = append(got, Pause(time.Now().Add(-ago), 10*time.Millisecond, 250*time.Millisecond).Round(time.Millisecond))
	}
	testkit.WantText(t, fmt.Sprint(got), "[10ms 20ms 100ms 250ms]")
}

// handles is process.handles but for the moment of a fork.
func handles(p Process, sig syscall.Signal) bool {
	yes, brief := p.Handles(sig)
	return yes && !brief
}

// shell runs a script as testkit.Shell does.
func shell(t *testing.T, script string) Process {
	t.Helper()
	p, err := Open(testkit.Shell(t, script))
	if err != nil {
		t.Fatal(err)
	}
	return p
}
