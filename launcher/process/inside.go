package process

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// lookTimeout limits each look at a file of a box: where the box itself answers for a file system, an open takes as long
// as the box likes, and nothing interrupts the open.
const lookTimeout = 5 * time.Second

var errLook = errors.New("a file system of the box does not answer")

// OpenInside opens a path below the root of the process pid, an element at a time, and follows no link: a link made
// inside the box would lead to the same name on the host. The descriptor (O_PATH) is good for /proc/self/fd, and for
// further looks from a directory. An open that takes too long is left behind, and ends with this process.
func OpenInside(ctx context.Context, pid int, elems ...string) (int, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, lookTimeout, errLook)
	defer cancel()
	type opened struct {
		fd  int
		err error
	}
	result := make(chan opened)
	go func() {
		fd, err := openInside(pid, elems)
		select {
		case result <- opened{fd, err}:
		case <-ctx.Done():
			if err == nil {
				unix.Close(fd)
			}
		}
	}()
	select {
	case o := <-result:
		return o.fd, o.err
	case <-ctx.Done():
		return -1, context.Cause(ctx)
	}
}

func openInside(pid int, elems []string) (int, error) {
	fd, err := unix.Open(ProcFile(pid, "root"), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	for i, elem := range elems {
		if err != nil {
			return -1, err
		}
		flags := unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC
		if i < len(elems)-1 {
			flags |= unix.O_DIRECTORY
		}
		var next int
		next, err = unix.Openat(fd, elem, flags, 0)
		unix.Close(fd)
		fd = next
	}
	return fd, err
}
