package launcher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// lock takes the lock name in dir, which no other process has until unlock is called or this one ends. While another
// has it, lock waits until ctx ends, and calls onWait with who that is, once for each. The directory is made where it
// is missing.
//
// The lock is flock's on the file NAME.lock, which is removed as the lock is given back. Whoever waited for a file that
// was removed meanwhile finds another one, or none, in its place, and begins anew: so there are never two holders. It is
// readable by root alone, as who can open it can lock it. The descriptor is closed on exec: the lock must not live on
// in Apptainer, which hands down what it inherits (cleanup_fd in cmd/starter/c/starter.c).
func lock(ctx context.Context, dir, name string, onWait func(holder string)) (unlock func(), err error) {
	for {
		if ctx.Err() != nil { // whoever gave up makes no file: only a holder removes one
			return nil, fmt.Errorf("locking %s: %w", name, context.Cause(ctx))
		}
		f, err := openLock(dir, name)
		if err != nil {
			return nil, fmt.Errorf("locking %s: %w", name, err)
		}
		err = waitLock(ctx, f, onWait)
		if err == nil && !inPlace(f) {
			f.Close()
			continue
		}
		if err == nil {
			err = ignoreFull(writeHolder(f)) // a lock that cannot say who holds it is one all the same
		}
		if err != nil {
			return nil, fmt.Errorf("locking %s: %w", name, errors.Join(err, f.Close()))
		}
		return func() { _ = os.Remove(f.Name()); f.Close() }, nil
	}
}

// openLock opens the lock's file, and makes it and its directory, which goes when the last lock was given back.
func openLock(dir, name string) (*os.File, error) {
	for {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		f, err := os.OpenFile(filepath.Join(dir, name+".lock"), os.O_RDWR|os.O_CREATE, 0o600)
		if !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
	}
}

// inPlace says whether the file is still what its name leads to.
func inPlace(f *os.File) bool {
	mine, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(f.Name())
	return err == nil && os.SameFile(mine, there)
}

// waitLock tries every 20 ms: a blocking flock could not be called off.
func waitLock(ctx context.Context, f *os.File, onWait func(string)) error {
	told := ""
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		if who := readHolder(f); who != "" && who != told {
			onWait(who)
			told = who
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// writeHolder notes in the file who holds the lock: "boxrun up web (pid 123)".
func writeHolder(f *os.File) error {
	argv := append([]string{filepath.Base(os.Args[0])}, os.Args[1:]...)
	text := fmt.Appendf(nil, "%s (pid %d)\n", printable(strings.Join(argv, " ")), os.Getpid())
	if _, err := f.WriteAt(text, 0); err != nil {
		return err
	}
	return f.Truncate(int64(len(text)))
}

// readHolder gives who holds the lock; "" where that is just being written.
func readHolder(f *os.File) string {
	buf := make([]byte, 4096)
	n, _ := f.ReadAt(buf, 0) // a short read is an error, and what is expected
	line, _, whole := bytes.Cut(buf[:n], []byte("\n"))
	if !whole {
		return ""
	}
	return string(line)
}

// ignoreFull drops the error of a file system that has no room left, where what was to be written is not needed: taking a
// box down has to work then too.
func ignoreFull(err error) error {
	if errors.Is(err, unix.ENOSPC) {
		return nil
	}
	return err
}
