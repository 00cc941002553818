package watch

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"boxrun/launcher/box"
)

// written are files of which inotify tells where the kernel tells nothing else: what it does at a write of a setting, and each
// program that had the lock of the legacy backend of iptables.
type written struct {
	inotify int
	opened  bool
}

// xtablesLock is held by each program that writes rules of the legacy backend of iptables (XT_LOCK_NAME), and by none of the
// backend nftables.
const xtablesLock = "/run/xtables.lock"

// writtenFiles returns the files, be they there or not. A setting for all devices resets the setting of a bridge.
func (w *watcher) writtenFiles() []string {
	const six = "/proc/sys/net/ipv6/conf/"
	paths := []string{xtablesLock, six + "all/forwarding", six + "all/force_forwarding"}
	for _, file := range w.store.Records("bridges/*.json") {
		bridge := box.NameOf(file)
		paths = append(paths, "/proc/sys/net/ipv4/conf/"+bridge+"/route_localnet")
		for _, key := range []string{"disable_ipv6", "accept_ra", "accept_dad", "force_forwarding"} {
			paths = append(paths, six+bridge+"/"+key)
		}
	}
	return paths
}

// follow begins to tell of writes to files, and of those that are there by now: a bridge comes and goes with its settings.
func (f *written) follow(ctx context.Context, w *watcher) error {
	if !f.opened {
		if err := f.open(ctx, w); err != nil {
			return fmt.Errorf("waiting for writes of settings: %w", err)
		}
	}
	for _, path := range w.writtenFiles() {
		mask := uint32(unix.IN_CLOSE_WRITE)
		if path == xtablesLock { // opened for reading alone
			mask = unix.IN_CLOSE
		}
		if _, err := unix.InotifyAddWatch(f.inotify, path, mask); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("waiting for writes of %s: %w", path, err)
		}
	}
	return nil
}

func (f *written) open(ctx context.Context, w *watcher) (err error) {
	if f.inotify, err = unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK); err != nil {
		return os.NewSyscallError("inotify_init1", err)
	}
	f.opened = true
	events := os.NewFile(uintptr(f.inotify), "inotify")
	context.AfterFunc(ctx, func() { _ = events.Close() })
	go func() {
		message := make([]byte, 64*unix.SizeofInotifyEvent) // without names, as no directory is watched
		for {
			if _, err := events.Read(message); err != nil {
				if ctx.Err() == nil {
					w.fail(fmt.Errorf("waiting for writes of settings: %w", err))
				}
				return
			}
			w.tell()
		}
	}()
	return nil
}
