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

// connectInBox connects to the unix socket that the descriptor socket (O_PATH) names, as a process of the PID namespace
// of the process pid. Nobody else will do: systemd refuses a peer whose pid it cannot see ("Incoming private connection
// from unprivileged client, refusing: No data available"), and the kernel tells it who called connect, not who writes
// later. So a child born in that namespace connects a descriptor that boxrun goes on to use.
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
	defer f.Close() // FileConn has a copy
	if err := connectFrom(int(ns.Fd()), fd, "/proc/self/fd/"+strconv.Itoa(socket)); err != nil {
		return nil, err
	}
	return net.FileConn(f)
}

// connectFrom connects fd to path by a process of the PID namespace ns, and waits for that process. fd is non-blocking,
// so that the process ends even if nobody accepts.
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

// forkConnect has a child connect fd. The children of the thread are born in the box meanwhile; where that cannot be
// undone, the thread stays locked, and ends with the goroutine.
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

// connected waits for the child of cloneConnect, and gives connect's error.
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

// cloneConnect makes a child that connects fd to addr and ends with connect's error number as its status; it returns in
// the parent alone. The child has one thread of this process and no Go runtime: as in os/exec between fork and exec,
// nothing but raw system calls may happen in it.
func cloneConnect(fd int, addr *unix.RawSockaddrUnix) (child int, errno unix.Errno) {
	pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 || pid != 0 {
		return int(pid), errno
	}
	_, _, errno = unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(addr)), unsafe.Sizeof(*addr))
	for {
		_, _, _ = unix.RawSyscall(unix.SYS_EXIT_GROUP, uintptr(errno), 0, 0)
	}
}
