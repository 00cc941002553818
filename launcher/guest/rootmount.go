package guest

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"boxrun/launcher/process"
)

// MakeRootBindable lets the box's root be bind-mounted by what runs in the box, whose init is the process pid. Apptainer
// makes it unbindable, and a systemd in a container leaves that to the container's manager. Every unit with a view of the
// files of its own (PrivateTmp=, ProtectSystem=, as most have) begins with a bind of the root: they all end with "Failed at
// step NAMESPACE". systemd makes the root a slave first; that lifts the ban since Linux 6.17 or so, and did not in the 6.12
// of Debian 13. An unbindable mount is a private one already: nothing else changes.
func MakeRootBindable(pid int) error {
	ns, err := os.Open(process.ProcFile(pid, "ns/mnt"))
	if err != nil {
		return err
	}
	defer ns.Close()
	result := make(chan error)
	go func() { result <- privateRoot(int(ns.Fd())) }()
	if err := <-result; err != nil {
		return fmt.Errorf("making the box's root bindable: %w", err)
	}
	return nil
}

// privateRoot makes the root of a mount namespace private. The thread stays in the namespace, and ends with the goroutine:
// it is never unlocked. What it shares with the other threads, a root and a current directory, it has to give up before.
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
