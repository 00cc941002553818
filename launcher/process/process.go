package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// BootID returns the host's boot ID, different for each boot.
func BootID() (string, error) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("reading the boot id: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// Process is one process of this boot, told by when it started from a later one that is given the same number.
type Process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks after boot: field 22 of /proc/PID/stat
}

// Open gives the process that has the number now; os.ErrProcessDone where none has, or only a zombie.
func Open(pid int) (Process, error) {
	s, err := statOf(pid)
	if err != nil {
		return Process{}, err
	}
	return Process{PID: pid, Start: s.start}, nil
}

// Alive says whether the process still runs. A zombie does not, and neither does a process of which nothing can be
// read: boxrun is root.
func (p Process) Alive() bool {
	s, err := statOf(p.PID)
	return err == nil && s.start == p.Start
}

// Signal sends sig to the process and to no other: the handle that os.FindProcess opens (a pidfd, from Linux 5.4 on)
// stays with the process it found, and that one is looked at before it is signalled. os.ErrProcessDone where the
// process is gone.
func (p Process) Signal(sig syscall.Signal) error {
	found, err := os.FindProcess(p.PID)
	if err != nil {
		return fmt.Errorf("signalling process %d: %w", p.PID, err)
	}
	defer found.Release() //nolint:errcheck // it only fails where there is nothing to release
	if !p.Alive() {
		return fmt.Errorf("signalling process %d: %w", p.PID, os.ErrProcessDone)
	}
	if err := found.Signal(sig); err != nil {
		return fmt.Errorf("signalling process %d: %w", p.PID, err)
	}
	return nil
}

// Kill ends the process at once; one that is gone is no error.
func (p Process) Kill() error {
	if err := p.Signal(syscall.SIGKILL); !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// Wait returns nil as soon as the process is gone, or why ctx ended before.
func (p Process) Wait(ctx context.Context) error {
	for began := time.Now(); p.Alive(); {
		if err := Sleep(ctx, Pause(began, 2*time.Millisecond, 20*time.Millisecond)); err != nil {
			return err
		}
	}
	return nil
}

// Handles says whether the process has a handler for sig, or blocks it to read it from a signalfd as systemd does. To
// an init without either the kernel does not deliver a signal from outside at all, SIGKILL and SIGSTOP apart. brief says
// that it blocks even SIGSEGV: so does the C library for the moment of a fork, when nothing is known of a handler.
func (p Process) Handles(sig syscall.Signal) (yes, brief bool) {
	text, err := os.ReadFile(ProcFile(p.PID, "status"))
	if err != nil {
		return false, false
	}
	masks := map[string]uint64{}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		if key != "SigBlk" && key != "SigCgt" {
			continue
		}
		if masks[key], err = strconv.ParseUint(strings.TrimSpace(value), 16, 64); err != nil {
			return false, false
		}
	}
	has := func(key string, sig syscall.Signal) bool { return masks[key]>>(uint(sig)-1)&1 == 1 }
	if has("SigCgt", sig) {
		return true, false
	}
	return has("SigBlk", sig), has("SigBlk", syscall.SIGSEGV)
}

// stat is what boxrun reads of /proc/PID/stat.
type stat struct {
	state  string
	parent int
	start  uint64
}

// statOf reads the state of a process; os.ErrProcessDone where there is none of that number, or only its zombie.
func statOf(pid int) (stat, error) {
	text, err := os.ReadFile(ProcFile(pid, "stat"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return stat{}, fmt.Errorf("reading process %d: %w", pid, os.ErrProcessDone)
	}
	if err != nil {
		return stat{}, err
	}
	s, err := parseStat(string(text))
	if err != nil {
		return stat{}, fmt.Errorf("reading process %d: %w", pid, err)
	}
	if s.state == "Z" || s.state == "X" {
		return stat{}, fmt.Errorf("reading process %d: %w", pid, os.ErrProcessDone)
	}
	return s, nil
}

// parseStat takes the fields from behind the command's last parenthesis: its name may hold spaces and parentheses.
func parseStat(text string) (stat, error) {
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 20 {
		return stat{}, fmt.Errorf("unexpected stat %q", text)
	}
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return stat{}, fmt.Errorf("unexpected stat %q", text)
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return stat{}, fmt.Errorf("unexpected stat %q", text)
	}
	return stat{state: fields[0], parent: parent, start: start}, nil
}

// ParentOf gives the number of a process's parent, 0 where that is outside this PID namespace.
func ParentOf(pid int) (int, error) {
	s, err := statOf(pid)
	return s.parent, err
}

func ProcFile(pid int, name string) string {
	return filepath.Join("/proc", strconv.Itoa(pid), name)
}

func OwnedByRoot(pid int) bool {
	info, err := os.Stat(ProcFile(pid, ""))
	if err != nil {
		return false
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	return ok && owner.Uid == 0
}

// Sleep waits for d; it returns early, with the cause, where ctx ends.
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

// Pause gives how long to wait before the next look at something waited for since began: a fiftieth of the time that
// went by, so that a wait is noticed to be over soon, in proportion, and a long one costs little.
func Pause(began time.Time, least, most time.Duration) time.Duration {
	return min(max(time.Since(began)/50, least), most)
}

// KillTimeout is how long a killed process may take to be gone.
const KillTimeout = 10 * time.Second

// HaltSignal is SIGRTMIN+3, by which systemd stops its services and then itself, as a container manager's poweroff
// (the C library keeps the first two of the kernel's real-time signals to itself, hence 34+3).
const HaltSignal = syscall.Signal(37)
