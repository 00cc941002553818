package enter

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"boxrun/launcher/process"
)

// ptyOf returns both ends of a new terminal of the devpts in the box with the process pid. Root in the box can put a link
// or something else there. With the box's own devpts the terminal has a name in the box (/dev/pts/0): with a terminal of
// the host, ttyname, tmux and su say "not a tty" inside. The host's terminal also stays out of the box's reach.
func ptyOf(ctx context.Context, pid int) (master, slave *os.File, err error) {
	dir, err := process.OpenInside(ctx, pid, "dev", "pts")
	if err != nil {
		return nil, nil, fmt.Errorf("opening a terminal of the box: /dev/pts: %w", err)
	}
	defer unix.Close(dir)
	var on unix.Statfs_t
	if err := unix.Fstatfs(dir, &on); err != nil {
		return nil, nil, os.NewSyscallError("fstatfs", err)
	}
	if on.Type != unix.DEVPTS_SUPER_MAGIC {
		return nil, nil, errors.New("opening a terminal of the box: its /dev/pts is no place of terminals")
	}
	return openPty(fmt.Sprintf("/proc/self/fd/%d", dir))
}

// openPty returns both ends of a new terminal of the devpts mounted on dir.
func openPty(dir string) (master, slave *os.File, err error) {
	path := filepath.Join(dir, "ptmx")
	// Non-blocking before os.NewFile sees the descriptor: then reads accept a deadline, and Fd keeps the mode.
	// O_NOFOLLOW keeps the box from leading the open elsewhere.
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

// peerOf unlocks the terminal with master fd and opens the other end. TIOCGPTPEER needs no path: the peer's path is
// valid in the box, and the same name on the host may be another terminal.
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
