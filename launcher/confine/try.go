package confine

import (
	"errors"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"boxrun/profiles"
)

// Try tries ways to the host from inside a confined box, and returns what is open though the level closes the way. Try
// runs as root in the box. No try does harm: the kernel is asked for a right, or given what is there already, or
// garbage.
func Try(s profiles.Security) []string {
	open := []string{}
	for _, w := range ways() {
		if !slices.Contains(s.Capabilities, w.capability) && w.try() == nil {
			open = append(open, w.name)
		}
	}
	return open
}

// A way leads to the host where try returns nil. The capability, added to the level, opens the way; "" for none.
type way struct {
	name, capability string
	try              func() error
}

func ways() []way {
	return []way{
		{"the clock", "CAP_SYS_TIME", sameClock},
		{"/proc/sys", "", func() error { return unix.Access("/proc/sys/kernel/core_pattern", unix.W_OK) }},
		{"/sys", "", func() error { return unix.Access("/sys/kernel", unix.W_OK) }},
		{"devices", "", foreignDevice},
		{"the kernel's log", "CAP_SYSLOG", func() error {
			_, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, make([]byte, 1))
			return err
		}},
		{"modules", "CAP_SYS_MODULE", func() error { return allowed(unix.InitModule([]byte("no module"), "")) }},
		{"BPF", "CAP_BPF", func() error {
			_, _, errno := unix.Syscall(unix.SYS_BPF, 1<<16, 0, 0) // no such command
			return allowed(errno)
		}},
	}
}

// allowed returns nil for an error of a call that the kernel knows and permits.
func allowed(err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) {
		return err
	}
	return nil
}

// sameClock sets the length of the clock's tick to what the length is.
func sameClock() error {
	var t unix.Timex
	if _, err := unix.Adjtimex(&t); err != nil {
		return err
	}
	t.Modes = unix.ADJ_TICK
	_, err := unix.Adjtimex(&t)
	return err
}

// foreignDevice opens the device of the kernel's log through a node of its own.
func foreignDevice() error {
	const path = "/dev/boxrun-try"
	if err := unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 11))); err != nil {
		return err
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == nil {
		err = unix.Close(fd)
	}
	return errors.Join(err, os.Remove(path))
}
