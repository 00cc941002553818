package confine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"boxrun/launcher/process"
	"boxrun/profiles"
)

// maskOf returns the bits of capabilities given by name.
func maskOf(names []string) (mask uint64) {
	for number, name := range profiles.Capabilities() {
		if slices.Contains(names, name) {
			mask |= 1 << number
		}
	}
	return mask
}

// Follow drops from the calling thread what the box's init does not have, for a command in the box from outside.
func Follow() error {
	mask, err := boundsOf(1)
	if err != nil {
		return err
	}
	return keepOnly(mask)
}

// boundsOf returns the capabilities that a process and its programs can have at most.
func boundsOf(pid int) (mask uint64, err error) {
	text, err := os.ReadFile(process.ProcFile(pid, "status"))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), "\nCapBnd:")
	if _, err := fmt.Sscanf(rest, "%x", &mask); err != nil {
		return 0, fmt.Errorf("reading the capabilities of the box's init: %w", err)
	}
	return mask, nil
}

// ErrLoose is the error for a box whose init has more capabilities than the box's profile says.
var ErrLoose = errors.New("its init has more capabilities than [security] says")

// Await returns when the init of a box, by its PID on the host, has dropped what the profile does not give the init, and
// is the image's own. boxrun is the first process of the box and does so at once, unless a bind of the profile hides
// boxrun: then the error is ErrLoose, after ten seconds. The error is os.ErrNotExist for an init that has ended.
func Await(ctx context.Context, pid int, p profiles.Profile) error {
	if !p.Security.Confined() {
		return nil
	}
	allowed := maskOf(capabilities(p.Security, sharesNetwork(p)))
	ctx, cancel := context.WithTimeoutCause(ctx, 10*time.Second, ErrLoose)
	defer cancel()
	for {
		confined, err := isConfined(pid, allowed)
		if errors.Is(err, unix.ESRCH) { // the init ended between the opening of a file and the reading
			err = os.ErrNotExist
		}
		if err != nil || confined {
			return err
		}
		if err := process.Sleep(ctx, 5*time.Millisecond); err != nil {
			return context.Cause(ctx)
		}
	}
}

// isConfined reports whether a process has no capabilities but the allowed, and is the image's init.
func isConfined(pid int, allowed uint64) (bool, error) {
	mask, err := boundsOf(pid)
	if err != nil || mask&^allowed != 0 {
		return false, err
	}
	told, err := IsTold(pid)
	return !told, err
}

// keepOnly drops all capabilities but those of mask from the calling thread and the programs of the thread. What a
// program may inherit goes too, as in a login on a machine: Apptainer leaves all capabilities inheritable and ambient.
func keepOnly(mask uint64) error {
	for number := range uintptr(64) {
		if mask&(1<<number) != 0 {
			continue
		}
		has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, number, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			break // the kernel has no more
		}
		if err == nil && has == 1 {
			err = unix.Prctl(unix.PR_CAPBSET_DROP, number, 0, 0, 0)
		}
		if err != nil {
			return os.NewSyscallError("prctl", err)
		}
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl", err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return os.NewSyscallError("capget", err)
	}
	for i, half := range []uint32{uint32(mask), uint32(mask >> 32)} {
		sets[i].Permitted, sets[i].Effective, sets[i].Inheritable = sets[i].Permitted&half, sets[i].Effective&half, 0
	}
	return os.NewSyscallError("capset", unix.Capset(&header, &sets[0]))
}
