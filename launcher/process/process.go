package process

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"boxrun/launcher/fault"
	"boxrun/netsetup/small"
)

// bootID is what BootID has read.
var bootID struct { //nolint:gochecknoglobals // the same for all of a process
	sync.Mutex
	id string
}

// BootID returns the host's boot ID, different for each boot. The kernel is asked once.
func BootID() (string, error) {
	bootID.Lock()
	defer bootID.Unlock()
	if bootID.id != "" {
		return bootID.id, nil
	}
	text, err := small.Read("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("reading the boot id: %w", err)
	}
	bootID.id = strings.TrimSpace(string(text))
	return bootID.id, nil
}

// Process is a process of this boot. The start time tells a process from a later process with the same number.
type Process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks after boot: field 22 of /proc/PID/stat
}

// Open returns the process with number pid now. The error is os.ErrProcessDone if no process has the number, or
// only a zombie.
func Open(pid int) (Process, error) {
	s, err := statOf(pid)
	if err != nil {
		return Process{}, err
	}
	return Process{PID: pid, Start: s.start}, nil
}

// Alive reports whether the process still runs. A zombie does not run. A process with an unreadable stat file does not
// run either, because boxrun is root.
func (p Process) Alive() bool {
	s, err := statOf(p.PID)
	return err == nil && s.start == p.Start
}

// Signal sends sig to the process and to no other. os.FindProcess opens a handle (a pidfd, from Linux 5.4 on) bound to
// a single process; signal checks the process before using the handle. The error is os.ErrProcessDone if the process is
// gone.
func (p Process) Signal(sig syscall.Signal) error {
	found, err := os.FindProcess(p.PID)
	if err != nil {
		return fmt.Errorf("signalling process %d: %w", p.PID, err)
	}
	defer found.Release() //nolint:errcheck // only fails with nothing to release
	err = os.ErrProcessDone
	if p.Alive() {
		err = found.Signal(sig)
	}
	return fault.Wrap(fmt.Sprintf("signalling process %d", p.PID), err)
}

// Kill ends the process at once. A process already gone is no error.
func (p Process) Kill() error {
	if err := p.Signal(syscall.SIGKILL); !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// Wait returns nil as soon as the process is gone. If ctx ends first, Wait returns the cause. The kernel tells of the end
// by a pidfd; before Linux 5.10 Wait looks again and again.
func (p Process) Wait(ctx context.Context) error {
	for began := time.Now(); p.Alive(); {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if p.awaitEnd(ctx) != nil {
			_ = Sleep(ctx, Pause(began, 2*time.Millisecond, 20*time.Millisecond))
		}
	}
	return nil
}

// awaitEnd waits until the kernel says that the process with the number has ended, or ctx ends. An error is a kernel
// without such pidfds.
func (p Process) awaitEnd(ctx context.Context) error {
	fd, err := unix.PidfdOpen(p.PID, unix.PIDFD_NONBLOCK)
	if err != nil {
		return err
	}
	handle := os.NewFile(uintptr(fd), "pidfd")
	defer handle.Close()
	end, err := handle.SyscallConn()
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = handle.SetReadDeadline(time.Unix(1, 0)) })()
	asked := false
	return end.Read(func(uintptr) bool {
		ended := asked || !p.Alive()
		asked = true
		return ended
	})
}

// Handles reports whether the process has a handler for sig, or blocks sig to read signals from a signalfd, as systemd
// does, or waits for sig, as BusyBox does. To an init with none of these, the kernel delivers no signal from outside,
// except SIGKILL and SIGSTOP.
//
// brief reports that the process blocks even SIGSEGV. The C library does so for the moment of a fork, and during a fork
// nothing is known about a handler.
func (p Process) Handles(sig syscall.Signal) (yes, brief bool) {
	has := signalsOf(p.PID)
	if has("SigCgt", sig) || waitsFor(p.PID, sig) {
		return true, false
	}
	return has("SigBlk", sig), has("SigBlk", syscall.SIGSEGV)
}

// waitsFor reports whether a process waits for sig in sigtimedwait(2). Meanwhile the kernel shows sig as not blocked.
func waitsFor(pid int, sig syscall.Signal) bool {
	text, _ := read(pid, "syscall") // "running" for a process outside of the kernel
	call := strings.Fields(text)
	if len(call) < 2 || call[0] != strconv.Itoa(unix.SYS_RT_SIGTIMEDWAIT) {
		return false
	}
	at, err := strconv.ParseInt(call[1], 0, 64)
	if err != nil {
		return false
	}
	memory, err := os.Open(ProcFile(pid, "mem"))
	if err != nil {
		return false
	}
	defer memory.Close()
	set := make([]byte, 8)
	if _, err := memory.ReadAt(set, at); err != nil {
		return false
	}
	return binary.NativeEndian.Uint64(set)>>(uint(sig)-1)&1 == 1
}

// Deaf reports whether a signal waits for the process with number pid to run again, and the process does not: its cgroup
// is frozen, the process is stopped, or the kernel has it wait for a file. A process that blocks sig is not deaf.
func Deaf(pid int, sig syscall.Signal) bool {
	has := signalsOf(pid)
	return has("ShdPnd", sig) && !has("SigBlk", sig)
}

// signalsOf returns a look at the sets of signals that the kernel shows of a process, by their names. A process that is
// gone has empty sets.
func signalsOf(pid int) (has func(set string, sig syscall.Signal) bool) {
	text, _ := read(pid, "status")
	return func(set string, sig syscall.Signal) bool {
		_, value, _ := strings.Cut(text, "\n"+set+":")
		value, _, _ = strings.Cut(value, "\n")
		mask, _ := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		return mask>>(uint(sig)-1)&1 == 1
	}
}

// stat holds the fields boxrun uses from /proc/PID/stat.
type stat struct {
	state  string
	parent int
	start  uint64
	env    [2]string // where the environment begins and ends; "0" in the middle of an exec, when there is none yet; "" for unknown
}

// HasBareEnvironment reports whether a process has an environment without a variable. In the middle of an exec a process has
// none. The error is os.ErrProcessDone if no process has the number, or only a zombie.
func HasBareEnvironment(pid int) (bool, error) {
	s, err := statOf(pid)
	return err == nil && s.env[0] == s.env[1] && s.env[0] != "0" && s.env[0] != "", err
}

// statOf reads the state of a process. The error is os.ErrProcessDone if no process has the number, or only a zombie.
func statOf(pid int) (stat, error) {
	var s stat
	text, err := read(pid, "stat")
	if err == nil {
		s, err = parseStat(text)
	}
	if s.state == "Z" || s.state == "X" {
		err = os.ErrProcessDone
	}
	return s, fault.Wrap(fmt.Sprintf("reading process %d", pid), err)
}

// read returns the text of a file of a process in /proc. The error is os.ErrProcessDone if no process has the number.
func read(pid int, name string) (string, error) {
	text, err := small.Read(ProcFile(pid, name))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		err = os.ErrProcessDone
	}
	return string(text), err
}

// parseStat parses the fields after the last parenthesis: the command name before may hold spaces and parentheses.
func parseStat(text string) (stat, error) {
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 20 {
		return stat{}, fmt.Errorf("unexpected stat %q", text)
	}
	parent, parentErr := strconv.Atoi(fields[1])
	start, startErr := strconv.ParseUint(fields[19], 10, 64)
	if parentErr != nil || startErr != nil {
		return stat{}, fmt.Errorf("unexpected stat %q", text)
	}
	found := stat{state: fields[0], parent: parent, start: start}
	if len(fields) >= 49 { // an emulator tells less
		found.env = [2]string(fields[47:49])
	}
	return found, nil
}

// ParentOf returns the PID of a process's parent; 0 if the parent is outside this PID namespace.
func ParentOf(pid int) (int, error) {
	s, err := statOf(pid)
	return s.parent, err
}

// ProcFile returns the path of a file in the directory of a process in /proc.
func ProcFile(pid int, name string) string {
	return filepath.Join("/proc", strconv.Itoa(pid), name)
}

// OwnedByRoot reports whether a process belongs to root.
func OwnedByRoot(pid int) bool {
	var s syscall.Stat_t
	return syscall.Stat(ProcFile(pid, ""), &s) == nil && s.Uid == 0
}

// Sleep waits for d. If ctx ends earlier, sleep returns the cause.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// Pause returns the time to sleep between two looks, in a wait since began: a fiftieth of the elapsed time, between
// least and most. The end of a short wait is noticed soon, in proportion, and a long wait costs little.
func Pause(began time.Time, least, most time.Duration) time.Duration {
	return min(max(time.Since(began)/50, least), most)
}

// ExitCode returns the exit code of an ended process; 128+N if signal N ended the process.
func ExitCode(p *os.ProcessState) int {
	if status, ok := p.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return p.ExitCode()
}

// KillTimeout is how long a killed process may take to be gone.
const KillTimeout = 10 * time.Second

// HaltSignal is SIGRTMIN+3, a container manager's poweroff: systemd stops its services and then itself. The C library
// keeps the kernel's first two real-time signals to itself, hence 34+3. Apptainer's master hands the signal on to init.
const HaltSignal = syscall.Signal(37)
