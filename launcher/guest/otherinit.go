package guest

import (
	"context"
	"errors"
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
	signal  syscall.Signal
	name    string                                    // of the signal
	known   bool                                      // the init is known, and stops on the signal
	prepare func(ctx context.Context, init int) error // before each signal; nil: nothing is to be done
	hears   func(ctx context.Context, init int) bool  // the boot is over, before which the init forgets a signal; nil: at all times
}

// haltingOf returns how the init is told to stop. An unknown init gets systemd's signal, and so does a program named init
// that takes it: sysvinit, which has that name as well, does not.
func haltingOf(init process.Process) halting {
	systemd := halting{signal: process.HaltSignal, name: "SIGRTMIN+3"}
	switch exe := exeName(init.PID); exe {
	case "busybox":
		return halting{signal: syscall.SIGUSR2, name: "SIGUSR2", known: true}
	case "openrc-init", "dinit", "s6-svscan":
		return halting{signal: syscall.SIGTERM, name: "SIGTERM", known: true}
	case "finit":
		return halting{signal: syscall.SIGTERM, name: "SIGTERM", known: true, hears: finitHears}
	case "runit":
		return halting{signal: syscall.SIGCONT, name: "SIGCONT", known: true, hears: runitHears, prepare: markStopit}
	case "init":
		if takes, _ := init.Handles(systemd.signal); !takes { // as Ctrl-Alt-Del: a reboot, which runs all scripts that stop services
			return halting{signal: syscall.SIGINT, name: "SIGINT", known: true}
		}
		return systemd
	default:
		systemd.known = strings.HasPrefix(exe, "systemd")
		return systemd
	}
}

// tell tells init to stop. An init that is gone is no error.
func (s stopping) tell(ctx context.Context, h halting) error {
	if h.prepare != nil {
		if err := h.prepare(ctx, s.init.PID); err != nil && s.init.Alive() {
			return err
		}
	}
	if err := s.init.Signal(h.signal); !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// tellAgain tells an init that forgets signals until the init certainly hears, or until ctx ends and the box is killed. An
// init that has heard would note in the box's log each time that it takes no notice.
func (s stopping) tellAgain(ctx context.Context, h halting) {
	for process.Sleep(ctx, s.again) == nil {
		if heard := h.hears(ctx, s.init.PID); s.tell(ctx, h) == nil && heard {
			return
		}
	}
}

// exeName returns the name of the executable of a process; "" for a process that is gone.
func exeName(pid int) string {
	exe, err := os.Readlink(process.ProcFile(pid, "exe"))
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(filepath.Base(exe), " (deleted)")
}

// OtherInit says of an init other than systemd what it is and how the box will stop; "" for systemd, and for an init
// that is gone.
func OtherInit(init process.Process) string {
	name := exeName(init.PID)
	if name == "" || strings.HasPrefix(name, "systemd") {
		return ""
	}
	h, text := haltingOf(init), "its init is "+say.Printable(say.Cut(name, 40))+", not systemd: a stop sends "
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
	children, err := childrenOf(pid)
	if err != nil {
		return true
	}
	for _, child := range children {
		state, err := os.ReadFile("/proc/" + child + "/status")
		if err == nil && !strings.Contains(string(state), "\nState:\tZ") {
			return true
		}
	}
	return false
}

// childrenOf returns the numbers of the children of a process.
func childrenOf(pid int) ([]string, error) {
	text, err := os.ReadFile(process.ProcFile(pid, "task/"+strconv.Itoa(pid)+"/children"))
	return strings.Fields(string(text)), err
}
