package guest

import (
	"context"
	"path"
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

// elements returns the elements of an absolute path.
func elements(file string) []string { return strings.Split(path.Clean(file)[1:], "/") }
