package testhost

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// Share makes a directory below /var of the host visible on another host that is on, at the same path, as a file system
// shared by both machines is. The directory is made where missing. A boot of the other host ends the sharing.
func (h *Host) Share(other *Host, dir string) error {
	shared := h.path("disk", dir)
	if err := os.MkdirAll(shared, 0o755); err != nil {
		return err
	}
	if err := os.MkdirAll(other.path("disk", dir), 0o755); err != nil {
		return err
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, shared, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("sharing %s of %s: %w", dir, h.name, err)
	}
	defer unix.Close(tree)
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine: its namespaces have changed
		done <- other.mount(tree, dir)
	}()
	return <-done
}

// mount mounts a detached tree on dir in the host. The calling thread stays in the namespaces of the host.
func (h *Host) mount(tree int, dir string) error {
	mounts, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", h.init))
	if err != nil {
		return err
	}
	defer mounts.Close()
	if err := errors.Join(unix.Unshare(unix.CLONE_FS), unix.Setns(int(mounts.Fd()), unix.CLONE_NEWNS)); err != nil {
		return fmt.Errorf("entering the mounts of %s: %w", h.name, err)
	}
	return unix.MoveMount(tree, "", unix.AT_FDCWD, filepath.Clean(dir), unix.MOVE_MOUNT_F_EMPTY_PATH)
}
