package watch

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"boxrun/launcher/undone"
)

// writers notes who writes settings of the network, and rules of the legacy backend of iptables, by fanotify(7): netlink names nobody
// there. writers listens as soon as something was put back.
type writers struct {
	fanotify int
	opened   bool
	none     bool // the kernel does not tell
}

// follow begins to listen, and listens to new directories.
func (f *writers) follow(ctx context.Context, w *watcher) error {
	if f.none || !undone.Any(w.store) {
		return nil
	}
	if !f.opened {
		fd, err := unix.FanotifyInit(unix.FAN_CLASS_NOTIF|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK, unix.O_RDONLY|unix.O_CLOEXEC)
		if f.none = err != nil; f.none { // without a name in the journal all goes on
			return nil
		}
		f.fanotify, f.opened = fd, true
		events := os.NewFile(uintptr(fd), "fanotify")
		context.AfterFunc(ctx, func() { _ = events.Close() })
		go listen(ctx, w, events)
	}
	return f.mark()
}

// mark listens to the directories of settings, and to the lock of iptables.
func (f *writers) mark() error {
	dirs, _ := filepath.Glob("/proc/sys/net/ipv[46]/conf/*") // the pattern is well-formed
	// The kernel keeps in memory what is listened to, and veths come and go.
	dirs = slices.DeleteFunc(dirs, func(dir string) bool { return strings.HasPrefix(filepath.Base(dir), "veth") })
	for _, path := range append(dirs, "/proc/sys/net/ipv4", xtablesLock) {
		mask := uint64(unix.FAN_CLOSE_WRITE | unix.FAN_EVENT_ON_CHILD)
		if path == xtablesLock { // opened for reading alone
			mask = unix.FAN_CLOSE_NOWRITE
		}
		if err := unix.FanotifyMark(f.fanotify, unix.FAN_MARK_ADD, mask, unix.AT_FDCWD, path); err != nil && !errors.Is(err, unix.ENOENT) {
			return &os.PathError{Op: "fanotify_mark", Path: path, Err: err}
		}
	}
	return nil
}

// listen notes the process of each event.
func listen(ctx context.Context, w *watcher, events io.Reader) {
	const size = unix.FAN_EVENT_METADATA_LEN
	buffer := make([]byte, 64*size)
	for {
		n, err := events.Read(buffer)
		if err != nil {
			if ctx.Err() == nil {
				w.fail(fmt.Errorf("waiting for who writes settings: %w", err))
			}
			return
		}
		for at := 0; at+size <= n; at += size { // nothing follows an event, as none was asked for
			var event unix.FanotifyEventMetadata
			_, _ = binary.Decode(buffer[at:n], binary.NativeEndian, &event) // there are enough bytes
			w.authors.note(authorOf(int(event.Pid)))
			if event.Fd >= 0 {
				_ = unix.Close(int(event.Fd)) // opened by the kernel for the event
			}
		}
	}
}
