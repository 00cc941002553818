package guest

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"boxrun/launcher/fault"
	"boxrun/launcher/process"
)

// MakeRootBindable allows processes in the box to bind-mount the box's root. pid is the box's init.
//
// Apptainer makes the root unbindable, and a systemd in a container leaves the root to the container's manager. Every
// unit with its own view of the files (PrivateTmp=, ProtectSystem=, as in most units) begins with a bind of the root.
// On an unbindable root these units all end with "Failed at step NAMESPACE". systemd makes the root a slave first;
// since about Linux 6.17 this lifts the ban, but not in the 6.12 of Debian 13. An unbindable mount is private already,
// so nothing else changes.
func MakeRootBindable(pid int) error {
	ns, err := os.Open(process.ProcFile(pid, "ns/mnt"))
	if err != nil {
		return err
	}
	defer ns.Close()
	result := make(chan error)
	go func() { result <- privateRoot(int(ns.Fd())) }()
	return fault.Wrap("making the box's root bindable", <-result)
}

// privateRoot makes the root of mount namespace ns private. The thread stays in the namespace and ends with the
// goroutine, because the goroutine never unlocks the thread. Before the setns, the thread must stop sharing its root
// and current directory with the other threads.
func privateRoot(ns int) error {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	if err := unix.Setns(ns, unix.CLONE_NEWNS); err != nil {
		return os.NewSyscallError("setns", err)
	}
	return os.NewSyscallError("mount", unix.Mount("", "/", "", unix.MS_PRIVATE, ""))
}
