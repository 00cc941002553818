package guest

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"boxrun/launcher/process"
	"boxrun/launcher/say"
)

// A halting is how an init is told to stop.
type halting struct {
	signal syscall.Signal
	name   string // of the signal
	known  bool   // the init is known, and stops on the signal
}

// haltingOf returns how the init named by its executable is told to stop. An unknown init gets systemd's signal.
func haltingOf(exe string) halting {
	switch exe {
	case "busybox":
		return halting{syscall.SIGUSR2, "SIGUSR2", true}
	case "openrc-init", "finit", "dinit", "s6-svscan":
		return halting{syscall.SIGTERM, "SIGTERM", true}
	}
	return halting{process.HaltSignal, "SIGRTMIN+3", strings.HasPrefix(exe, "systemd")}
}

// exeName returns the name of the executable of a process; "" for a process that is gone.
func exeName(pid int) string {
	exe, _ := os.Readlink(process.ProcFile(pid, "exe"))
	return strings.TrimSuffix(filepath.Base(exe), " (deleted)")
}

// OtherInit says of an init other than systemd what it is and how the box will stop; "" for systemd, and for an init
// that is gone.
func OtherInit(init process.Process) string {
	name := exeName(init.PID)
	if name == "" || name == "." || strings.HasPrefix(name, "systemd") {
		return ""
	}
	h, text := haltingOf(name), "its init is "+say.Printable(say.Cut(name, 40))+", not systemd: a stop sends "
	if h.known {
		return text + h.name
	}
	return text + h.name + ", and kills the box after " + usualTimes().handler.String() + " without a handler"
}

// endEmpty kills an init that has stopped all else, until ctx ends: without CAP_SYS_BOOT an init other than systemd
// cannot end itself, and waits for a power-off that never comes.
func (s stopping) endEmpty(ctx context.Context) {
	for last := time.Now(); process.Sleep(ctx, s.nudge) == nil; {
		if hasChildren(s.init.PID) {
			last = time.Now()
		} else if time.Since(last) > s.empty {
			_ = s.init.Kill() // an error means an init that is gone: all the better
			return
		}
	}
}

// hasChildren reports whether a process has a child that still runs. All processes of a box without a living parent are
// children of its init. Where the kernel does not tell, there is a child.
func hasChildren(pid int) bool {
	text, err := os.ReadFile(process.ProcFile(pid, "task/"+strconv.Itoa(pid)+"/children"))
	if err != nil {
		return true
	}
	for _, child := range strings.Fields(string(text)) {
		state, err := os.ReadFile("/proc/" + child + "/status")
		if err == nil && !strings.Contains(string(state), "\nState:\tZ") {
			return true
		}
	}
	return false
}
