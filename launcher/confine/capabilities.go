package confine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
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

// Await returns when the init of a box has dropped what the profile does not give the init, and is the image's own. boxrun
// is the first process of the box and does so at once, unless a bind of the profile hides boxrun: then the error is ErrLoose,
// after ten seconds at most. The error is os.ErrNotExist for an init that has ended.
func Await(ctx context.Context, init process.Process, p profiles.Profile) error {
	if !p.Security.Confined() {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 10*time.Second, ErrLoose)
	defer cancel()
	if err := AwaitImage(ctx, init); err != nil {
		return err
	}
	mask, err := boundsOf(init.PID)
	switch {
	case !init.Alive():
		return os.ErrNotExist
	case err == nil && mask&^maskOf(capabilities(p.Security, sharesNetwork(p))) != 0:
		return ErrLoose
	}
	return err
}

// AwaitImage waits until the init of a box is the image's own, and no longer boxrun as the first process of the box, or has
// ended. The error is the cause when ctx ends.
func AwaitImage(ctx context.Context, init process.Process) error {
	for init.Alive() {
		told, err := isTold(init.PID)
		if errors.Is(err, unix.ESRCH) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, os.ErrProcessDone) { // meanwhile
			return nil
		}
		if err != nil || !told {
			return err
		}
		if err := process.Sleep(ctx, 2*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
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
