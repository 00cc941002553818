// Command escape tries 20 ways from a box to the host, as root in the box, and prints a line for each: open or shut, and
// how the try ended. No try does harm: a try writes back the value that was there, opens a file without a write, or
// gives garbage that the kernel refuses after the check of rights. Begin reading at ways.
//
//	escape CGROUP KEY    CGROUP: path of a cgroup of the host below its mount; KEY: of a System V segment of the host
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: escape CGROUP KEY")
		os.Exit(2)
	}
	dir, err := os.MkdirTemp("", "escape-")
	if err == nil {
		err = unix.Unshare(unix.CLONE_FS)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "escape:", err)
		os.Exit(1)
	}
	defer os.RemoveAll(dir)
	h := host{dir: dir, cgroup: os.Args[1], key: os.Args[2]}
	for _, w := range h.ways() {
		if err := w.try(); err != nil {
			fmt.Printf("shut %s: %s\n", w.name, strings.ReplaceAll(err.Error(), "\n", "; "))
		} else {
			fmt.Printf("open %s\n", w.name)
		}
	}
}

// A way leads to the host where try returns nil.
type way struct {
	name string
	try  func() error
}

// host is the host to reach, and the directory for mounts and nodes of the tries.
type host struct{ dir, cgroup, key string }

func (h host) ways() []way {
	return []way{
		{"clock", clock},
		{"sysctl", func() error { return sysctl("/proc/sys") }},
		{"sys", func() error { return sysfs("/sys") }},
		{"new-sysfs", func() error { return h.mounted("sysfs", sysfs) }},
		{"proc-sys-again", h.procSysAgain},
		{"disk", h.disk},
		{"mem", func() error { return h.node(unix.S_IFCHR, 1, 1) }},
		{"kmsg", func() error { return h.node(unix.S_IFCHR, 1, 11) }},
		{"port", func() error { return h.node(unix.S_IFCHR, 1, 4) }},
		{"cgroups-seen", h.seesCgroup},
		{"cgroups-written", h.writesCgroup},
		{"kernel-log", kernelLog},
		{"handle", handle},
		{"bpf", bpfMap},
		{"perf", perf},
		{"sysv", h.segment},
		{"priority", priority},
		{"module", module},
		{"kexec", kexec},
		{"reboot", reboot},
	}
}

// clock sets the length of the clock's tick to what the length is.
func clock() error {
	var t unix.Timex
	if _, err := unix.Adjtimex(&t); err != nil {
		return err
	}
	t.Modes = unix.ADJ_TICK
	_, err := unix.Adjtimex(&t)
	return err
}

// sysctl writes back two values of the host below dir.
func sysctl(dir string) error {
	return errors.Join(same(dir+"/vm/swappiness"), same(dir+"/kernel/core_pattern"))
}

// same writes to a file what is in the file.
func same(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

// opened opens a file and closes the file again.
func opened(path string, flags int) error {
	f, err := os.OpenFile(path, flags|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

// sysfs opens a setting of the host's kernel for writing.
func sysfs(dir string) error { return opened(dir+"/kernel/rcu_expedited", os.O_WRONLY) }

// mounted mounts a file system of the kernel's anew, and tries to reach the host there.
func (h host) mounted(kind string, try func(dir string) error) error {
	dir := filepath.Join(h.dir, kind)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := unix.Mount(kind, dir, kind, 0, ""); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
	return try(dir)
}

// procSysAgain reaches /proc/sys for writing by a change of mounts: its own, or another /proc. The change is taken
// back.
func (h host) procSysAgain() error {
	err := unix.Mount("", "/proc/sys", "", unix.MS_REMOUNT|unix.MS_BIND, "")
	if err == nil {
		defer func() {
			_ = unix.Mount("", "/proc/sys", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
		}()
		if err = sysctl("/proc/sys"); err == nil {
			return nil
		}
	}
	return h.mounted("proc", func(dir string) error { return sysctl(dir + "/sys") })
}

// disk reads a disk of the host: through a node of one's own, or where the kernel shows its own nodes.
func (h host) disk() error {
	names, err := filepath.Glob("/sys/class/block/*/dev")
	if err != nil || len(names) == 0 {
		return errors.New("no disk is seen")
	}
	for _, name := range names {
		text, readErr := os.ReadFile(name)
		var major, minor uint32
		if _, scanErr := fmt.Sscanf(string(text), "%d:%d", &major, &minor); readErr != nil || scanErr != nil {
			continue
		}
		if err = h.node(unix.S_IFBLK, major, minor); err == nil {
			return nil
		}
		node := filepath.Base(filepath.Dir(name))
		again := h.mounted("devtmpfs", func(dir string) error { return opened(filepath.Join(dir, node), os.O_RDONLY) })
		if again == nil {
			return nil
		}
		err = errors.Join(err, again)
	}
	return err
}

// node opens a device through a node of one's own.
func (h host) node(kind, major, minor uint32) error {
	path := filepath.Join("/dev", fmt.Sprintf("escape-%d-%d-%d", kind, major, minor))
	if err := unix.Mknod(path, kind|0o600, int(unix.Mkdev(major, minor))); err != nil {
		return fmt.Errorf("mknod: %w", err)
	}
	defer os.Remove(path)
	return opened(path, os.O_RDONLY)
}

// seesCgroup finds the host's cgroup, in the tree that is there or in one mounted anew.
func (h host) seesCgroup() error {
	find := func(dir string) error { _, err := os.Stat(filepath.Join(dir, h.cgroup)); return err }
	if find("/sys/fs/cgroup") == nil {
		return nil
	}
	return h.mounted("cgroup2", find)
}

// writesCgroup writes back whether the host's cgroup is frozen.
func (h host) writesCgroup() error {
	write := func(dir string) error { return same(filepath.Join(dir, h.cgroup, "cgroup.freeze")) }
	if write("/sys/fs/cgroup") == nil {
		return nil
	}
	return h.mounted("cgroup2", write)
}

// kernelLog reads a line of the kernel's log.
func kernelLog() error {
	_, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, make([]byte, 256))
	return err
}

// handle opens a file by a handle of garbage. Whoever may open by handle hears that the handle is stale.
func handle() error {
	dir, err := os.Open("/tmp")
	if err != nil {
		return err
	}
	defer dir.Close()
	_, err = unix.OpenByHandleAt(int(dir.Fd()), unix.NewFileHandle(1, make([]byte, 12)), unix.O_PATH)
	return refusedAs(err, unix.ESTALE)
}

// refusedAs returns nil for an error that the kernel gives after its check of rights.
func refusedAs(err error, after ...error) error {
	for _, want := range after {
		if errors.Is(err, want) {
			return nil
		}
	}
	return err
}

// segment finds the host's System V segment in the list of segments.
func (h host) segment() error {
	text, err := os.ReadFile("/proc/sysvipc/shm")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); len(words) > 0 && words[0] == h.key {
			return nil
		}
	}
	return errors.New("not in the list")
}

// priority raises the priority of this process, and takes that back.
func priority() error {
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, -5); err != nil {
		return err
	}
	return unix.Setpriority(unix.PRIO_PROCESS, 0, 0)
}

// module loads garbage as a module.
func module() error {
	return refusedAs(unix.InitModule([]byte("garbage of no module"), ""), unix.ENOEXEC)
}

// kexec and reboot give flags and numbers that no kernel takes.
func kexec() error {
	_, _, errno := unix.Syscall6(unix.SYS_KEXEC_LOAD, 0, 0, 0, ^uintptr(0), 0, 0)
	return refusedAs(errno, unix.EINVAL)
}

func reboot() error {
	_, _, errno := unix.Syscall6(unix.SYS_REBOOT, 1, 2, 3, 0, 0, 0)
	return refusedAs(errno, unix.EINVAL)
}
