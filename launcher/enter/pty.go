package enter

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// openPty gives both ends of a new terminal of the box whose init is pid. It is one of the box's own devpts, where it
// has a name (/dev/pts/0): with a terminal of the host, ttyname, tmux and su say "not a tty" inside. The host's
// terminal, too, stays out of the box's reach.
func openPty(pid int) (master, slave *os.File, err error) {
	return openPtyIn(fmt.Sprintf("/proc/%d/root/dev/pts", pid))
}

// openPtyIn gives both ends of a new terminal of the devpts that is mounted on dir.
func openPtyIn(dir string) (master, slave *os.File, err error) {
	path := filepath.Join(dir, "ptmx")
	// Non-blocking before os.NewFile sees it: then reads can be given a deadline, and Fd leaves it so. The box must
	// not be able to lead the open elsewhere.
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("opening a terminal of the box: %w", &os.PathError{Op: "open", Path: path, Err: err})
	}
	master = os.NewFile(uintptr(fd), path)
	slave, err = peerOf(fd)
	if err != nil {
		master.Close()
		return nil, nil, fmt.Errorf("opening a terminal of the box: %w", err)
	}
	return master, slave, nil
}

// peerOf unlocks the terminal whose master is fd and opens its other end. TIOCGPTPEER needs no path: the peer's own is
// one in the box, and the same name on the host may be another terminal.
func peerOf(fd int) (*os.File, error) {
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, os.NewSyscallError("TIOCSPTLCK", err)
	}
	peer, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER,
		unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return nil, os.NewSyscallError("TIOCGPTPEER", errno)
	}
	return os.NewFile(peer, "pty"), nil
}
