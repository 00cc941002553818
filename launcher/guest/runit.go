package guest

import (
	"context"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/launcher/process"
)

// stopit is runit's file whose mode says whether runit, woken by SIGCONT, is to stop.
const stopit = "/etc/runit/stopit"

// markStopit gives stopit in a box the mode for a stop, as "runit-init 0" does. pid is the box's init. Distributions make
// stopit a link to a file below /run; a second link is not followed.
func markStopit(ctx context.Context, pid int) error {
	_, err := files.Within(ctx, func() (bool, error) {
		file, err := openStopit(ctx, pid)
		if err != nil {
			return false, err
		}
		defer unix.Close(file)
		return true, unix.Chmod("/proc/self/fd/"+strconv.Itoa(file), 0o100)
	})
	return fault.Wrap("telling the box's runit to stop", err)
}

func openStopit(ctx context.Context, pid int) (int, error) {
	file, err := process.OpenInside(ctx, pid, elements(stopit)...)
	if err != nil {
		return -1, err
	}
	target := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(file, "", target)
	if err != nil { // no link
		return file, nil
	}
	unix.Close(file)
	to := string(target[:n])
	if !path.IsAbs(to) {
		to = path.Join(path.Dir(stopit), to)
	}
	return process.OpenInside(ctx, pid, elements(to)...)
}

// runitHears reports whether runit is certainly in stage 2, whose program is /etc/runit/2, and runsvdir from then on. In
// stage 1 runit forgets a signal, and the end of that stage takes the mode from stopit. init is runit.
func runitHears(ctx context.Context, init int) bool {
	hears, _ := files.Within(ctx, func() (bool, error) { // what cannot be read tells nothing
		children, err := childrenOf(init)
		return slices.ContainsFunc(children, func(child string) bool {
			line, _ := os.ReadFile("/proc/" + child + "/cmdline") // a child may be gone by now
			argv := strings.Split(string(line), "\x00")
			return path.Base(argv[0]) == "runsvdir" || slices.Contains(argv, "/etc/runit/2")
		}), err
	})
	return hears
}

// finitUp is what finit makes when all of the boot is done.
const finitUp = "/run/finit/cond/hook/sys/up"

// finitHears reports whether finit has certainly left runlevel S, in which finit forgets a signal. init is finit.
func finitHears(ctx context.Context, init int) bool {
	up, err := process.OpenInside(ctx, init, elements(finitUp)...)
	if err == nil {
		unix.Close(up)
	}
	return err == nil
}

// elements returns the elements of an absolute path.
func elements(file string) []string { return strings.Split(path.Clean(file)[1:], "/") }
