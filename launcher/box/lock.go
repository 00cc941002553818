package box

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"boxrun/launcher/files"
	"boxrun/launcher/process"
	"boxrun/launcher/say"
)

// takeLock takes the lock called name in dir. No other process can hold the same lock until unlock is called or this
// process ends. While somebody else holds the lock, takeLock waits until ctx ends, and calls onWait once for each other
// process that holds the lock, with a description of the process. Without onWait takeLock does not wait, and the error is
// ErrBusy. A missing directory is made.
//
// The lock is a flock on the file NAME.lock. unlock removes the file where nobody waits. A waiter whose file was removed
// meanwhile finds another file, or none, under the name and begins anew: so there are never two holders. Only root may read
// the file, as whoever can open the file can lock it. The descriptor is closed on exec: otherwise the lock would live on in
// Apptainer, which passes inherited descriptors on (cleanup_fd in cmd/starter/c/starter.c).
//
// Who waits is served in the order of coming. A file that is gone stays locked until the new one has been tried, or those
// behind would be as early.
func takeLock(ctx context.Context, dir, name string, onWait func(holder string)) (unlock func(), err error) {
	var gone *os.File
	defer func() { gone.Close() }()
	for {
		if ctx.Err() != nil { // checked before making a file: only a holder removes the file
			return nil, fmt.Errorf("locking %s: %w", name, context.Cause(ctx))
		}
		f, err := openLock(dir, name)
		if err != nil {
			return nil, fmt.Errorf("locking %s: %w", name, err)
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		gone.Close()
		switch {
		case !errors.Is(err, unix.EWOULDBLOCK):
		case onWait == nil:
			err = ErrBusy
		default:
			err = waitLock(ctx, f, onWait)
		}
		if err == nil && !files.InPlace(f) {
			gone = f
			continue
		}
		if err == nil {
			err = files.IgnoreFull(writeHolder(f)) // the lock holds even without a description of its holder
		}
		if err != nil {
			return nil, fmt.Errorf("locking %s: %w", name, errors.Join(err, f.Close()))
		}
		return func() { giveBack(f) }, nil
	}
}

// giveBack gives back the lock of f, which is in place. While somebody waits the file stays, for the last to remove: who
// waited would have to begin anew, behind those who have just come.
func giveBack(f *os.File) {
	if !awaited(f) {
		_ = os.Remove(f.Name())
	}
	f.Close()
}

// awaited reports whether somebody other than the holder of f waits for the lock of f.
func awaited(f *os.File) bool {
	return told(f, waits)
}

// told reports whether another open file than f has the lock of a place.
func told(f *os.File, at int64) bool {
	found := place(unix.F_WRLCK, at)
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &found)
	return err == nil && found.Type != unix.F_UNLCK
}

// announce tells that this process waits for the lock of f, until all copies of f are closed. The kernel's own list of those
// who wait (proc_locks(5)) would do without, but has all processors take note for each who reads the list: that takes ten
// milliseconds.
func announce(f *os.File) error {
	mine := place(unix.F_RDLCK, waits)
	return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &mine)
}

// Places where all who wait have a shared lock, and those who wait to take the box down: bytes that nobody reads or writes.
// Such locks and that of flock(2) know nothing of each other.
const (
	waits int64 = 1<<30 + iota
	waitsToStop
)

// place is the lock of a place.
func place(kind int16, at int64) unix.Flock_t {
	return unix.Flock_t{Type: kind, Whence: io.SeekStart, Start: at, Len: 1}
}

// wantStop tells the holder of the lock at path that somebody waits to take the box down, until end is called. Without a file
// nobody holds the lock.
func wantStop(path string) (end func()) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return func() {}
	}
	mine := place(unix.F_RDLCK, waitsToStop)
	_ = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &mine) // a holder that is not told only works longer
	return func() { f.Close() }
}

// stopWanted reports whether somebody waits to take the box down whose lock is at path.
func stopWanted(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	return told(f, waitsToStop)
}

// held reports whether somebody holds the lock of the file at path, by the kernel's list of locks (proc_locks(5)), which
// everybody may read. Without a list nobody is known to hold a lock.
func held(path string) bool {
	var info unix.Stat_t
	if unix.Stat(path, &info) != nil {
		return false
	}
	file := fmt.Sprintf(" %02x:%02x:%d ", unix.Major(info.Dev), unix.Minor(info.Dev), info.Ino)
	text, _ := os.ReadFile("/proc/locks")
	return strings.Contains(string(text), file)
}

// openLock opens the lock's file, and makes the file and its directory if missing. The directory may vanish in between,
// since the last holder removes it; openLock then tries again.
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

// waitLock waits in the kernel's queue for the lock of f, which another process holds, until ctx ends. By looks now and then
// waiters would draw lots, and one of many would lose for minutes. Whoever has no time to wait does not queue.
func waitLock(ctx context.Context, f *os.File, onWait func(string)) error {
	if err := process.Sleep(ctx, 5*time.Millisecond); err != nil {
		return err
	}
	if err := announce(f); err != nil {
		return err
	}
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	same, turn, told := os.NewFile(uintptr(fd), f.Name()), make(chan error, 1), ""
	go func() { turn <- files.Lock(same) }()
	for {
		if who := readHolder(f); who != "" && who != told && !strings.HasSuffix(who, ownEnd()) {
			onWait(who)
			told = who
		}
		select {
		case err := <-turn:
			return errors.Join(err, same.Close())
		case <-ctx.Done():
			go passOn(same, turn)
			return context.Cause(ctx)
		case <-time.After(5 * time.Millisecond): // the holder may be another
		}
	}
}

// passOn gives back the lock of f, which nobody wants any more, when its turn has come: an flock that waits cannot be
// cancelled, other than by the end of the process.
func passOn(f *os.File, turn <-chan error) {
	if err := <-turn; err == nil && files.InPlace(f) {
		giveBack(f)
	}
	f.Close()
}

// writeHolder writes a description of this process into the file: "boxrun up web (pid 123)".
func writeHolder(f *os.File) error {
	argv := append([]string{filepath.Base(os.Args[0])}, os.Args[1:]...)
	text := []byte(say.Printable(strings.Join(argv, " ")) + ownEnd() + "\n")
	if _, err := f.WriteAt(text, 0); err != nil {
		return err
	}
	return f.Truncate(int64(len(text)))
}

// ownEnd is the end of the description of this process. Boxes side by side in this process take turns without a word.
func ownEnd() string { return fmt.Sprintf(" (pid %d)", os.Getpid()) }

// readHolder returns the holder's description from the file; "" while the holder is still writing.
func readHolder(f *os.File) string {
	buf := make([]byte, 4096)
	n, _ := f.ReadAt(buf, 0) // a short read returns io.EOF, as expected
	line, _, whole := bytes.Cut(buf[:n], []byte("\n"))
	if !whole {
		return ""
	}
	return string(line)
}
