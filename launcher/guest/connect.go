package guest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"

	"boxrun/launcher/process"
)

// connectInBox connects to the unix socket named by the descriptor socket (O_PATH), from a process in the PID
// namespace of the process pid. systemd refuses a peer if it cannot see the peer's pid ("Incoming private connection
// from unprivileged client, refusing: No data available"). The kernel tells systemd the caller of connect, not the
// process that writes later. So a child born in the PID namespace connects a descriptor, and boxrun then uses this
// descriptor.
func connectInBox(pid, socket int) (net.Conn, error) {
	ns, err := os.Open(process.ProcFile(pid, "ns/pid"))
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), "the box's systemd socket")
	defer f.Close() // net.FileConn duplicates the descriptor
	if err := connectFrom(int(ns.Fd()), fd, "/proc/self/fd/"+strconv.Itoa(socket)); err != nil {
		return nil, err
	}
	return net.FileConn(f)
}

// connectFrom has a process of the PID namespace ns connect fd to path, and waits for this process. fd is
// non-blocking, so that the process ends even if nobody accepts the connection.
func connectFrom(ns, fd int, path string) error {
	addr := unix.RawSockaddrUnix{Family: unix.AF_UNIX}
	if len(path) >= len(addr.Path) {
		return unix.ENAMETOOLONG
	}
	for i := range len(path) {
		addr.Path[i] = int8(path[i])
	}
	result := make(chan error)
	go func() { result <- forkConnect(ns, fd, &addr) }()
	return <-result
}

// forkConnect has a child in the PID namespace ns connect fd. After the first setns all children of the thread are
// born in ns. Where the second setns fails, the thread stays locked and ends with the goroutine, so no other code
// forks from it.
func forkConnect(ns, fd int, addr *unix.RawSockaddrUnix) error {
	own, err := os.Open("/proc/self/ns/pid")
	if err != nil {
		return err
	}
	defer own.Close()
	runtime.LockOSThread()
	if err := unix.Setns(ns, unix.CLONE_NEWPID); err != nil {
		runtime.UnlockOSThread()
		return os.NewSyscallError("setns", err)
	}
	child, errno := cloneConnect(fd, addr)
	if err := unix.Setns(int(own.Fd()), unix.CLONE_NEWPID); err == nil {
		runtime.UnlockOSThread()
	}
	if errno != 0 {
		return os.NewSyscallError("clone", errno)
	}
	return connected(child)
}

// connected waits for the child of cloneConnect, and returns the error of the child's connect.
func connected(child int) error {
	var status unix.WaitStatus
	_, err := unix.Wait4(child, &status, 0, nil)
	for errors.Is(err, unix.EINTR) {
		_, err = unix.Wait4(child, &status, 0, nil)
	}
	switch {
	case err != nil:
		return os.NewSyscallError("wait4", err)
	case !status.Exited():
		return fmt.Errorf("connecting from inside the box: the child ended with status %#x", int(status))
	case status.ExitStatus() != 0:
		return os.NewSyscallError("connect", unix.Errno(status.ExitStatus()))
	}
	return nil
}

// cloneConnect makes a child for connecting fd to addr. The child exits with the error number of connect as its
// status; cloneConnect returns only in the parent. The child has a single thread and no Go runtime: as in os/exec
// between fork and exec, only raw system calls may happen in the child.
func cloneConnect(fd int, addr *unix.RawSockaddrUnix) (child int, errno unix.Errno) {
	flags, stack := uintptr(unix.SIGCHLD), uintptr(0)
	if runtime.GOARCH == "s390x" { // takes the stack first: CONFIG_CLONE_BACKWARDS2, see clone(2)
		flags, stack = stack, flags
	}
	pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, flags, stack, 0, 0, 0, 0)
	if errno != 0 || pid != 0 {
		return int(pid), errno
	}
	_, _, errno = unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(addr)), unsafe.Sizeof(*addr))
	for {
		_, _, _ = unix.RawSyscall(unix.SYS_EXIT_GROUP, uintptr(errno), 0, 0)
	}
}
