package confine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"boxrun/launcher/files"
	"boxrun/profiles"
)

// closed are the flags of mounts without programs, devices and set-user-ID bits.
const closed = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// ownMemory gives the box shared memory and message queues of its own.
func ownMemory() error { return unix.Unshare(unix.CLONE_NEWIPC) }

// detachFromHost keeps mounts of the box from reaching the host. Mounts of the host below a bind still reach the box.
func detachFromHost() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, "") }

// shareMounts lets mounts reach the namespaces made later by units of the box. systemd does so on a machine and leaves
// a container's mounts alone; without, the files of LoadCredential= never reach a unit. Besides, Apptainer's root
// cannot be bound, and without a root to bind no unit can have a view of the files of its own.
func shareMounts() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, "") }

// ownCgroups replaces the host's cgroups by the cgroup of the box and the cgroups below. Where the host has cgroups of
// the first version, the tree stays the host's: there a systemd finds its place in the tree by the names of the host.
func ownCgroups() error {
	const dir = "/sys/fs/cgroup"
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil || fs.Type != unix.CGROUP2_SUPER_MAGIC {
		return err
	}
	err := unix.Unshare(unix.CLONE_NEWCGROUP)
	if err == nil {
		err = unmountAll(dir)
	}
	if err != nil {
		return err
	}
	return unix.Mount("cgroup2", dir, "cgroup2", closed, "")
}

// unmountAll takes away everything mounted on dir.
func unmountAll(dir string) error {
	for {
		switch err := unix.Unmount(dir, unix.MNT_DETACH); {
		case errors.Is(err, unix.EINVAL):
			return nil // nothing is mounted there any more
		case err != nil:
			return err
		}
	}
}

// closeSys makes the mount on /sys read-only, but none of the mounts below.
func closeSys() error {
	return unix.Mount("", "/sys", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|closed, "")
}

// closeSysctls makes /proc/sys read-only, but for the settings of a network of the box's own.
func closeSysctls(networkToo bool) error {
	const dir, network = "/proc/sys", "/proc/sys/net"
	if err := readOnly(dir); err != nil || networkToo {
		return err
	}
	if err := unix.Mount(network, network, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	return unix.Mount("", network, "", unix.MS_REMOUNT|unix.MS_BIND|closed, "")
}

// ownBoot gives the box a boot ID of its own: the journal of the box then tells its starts apart, as a machine's tells
// boots. The kernel has one ID for all. The file lies in a file system without a place: systemd mounts its own on /run.
func ownBoot() error {
	const dir, file, target = "/run", "/run/boot_id", "/proc/sys/kernel/random/boot_id"
	if err := unix.Mount("tmpfs", dir, "tmpfs", closed, "size=4k"); err != nil {
		return err
	}
	err := os.WriteFile(file, []byte(uuid.NewString()+"\n"), 0o444)
	if err == nil {
		err = bindClosed(file, target)
	}
	return errors.Join(err, unix.Unmount(dir, unix.MNT_DETACH))
}

// ownNodes makes nodes of the box's own where Apptainer has bound nodes of the host. Mode, owner and times of a bound node
// are the host's: root in the box could close /dev/null for all users of the host. A directory of nodes stays bound.
func ownNodes() error {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		path := strings.Fields(line)[4]
		if !strings.HasPrefix(path, "/dev/") {
			continue
		}
		if err := whereItIs(ownNode(path)); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

// ownNode makes a node in the place of a bound node: on the empty file that Apptainer has made for the bind. Where
// something else comes to light, that stays.
func ownNode(path string) error {
	var node unix.Stat_t
	if err := unix.Lstat(path, &node); err != nil {
		return err
	}
	if kind := node.Mode & unix.S_IFMT; kind != unix.S_IFCHR && kind != unix.S_IFBLK {
		return nil
	}
	if err := unmountAll(path); err != nil {
		return err
	}
	below, err := os.Lstat(path)
	if err != nil || !below.Mode().IsRegular() || below.Size() != 0 {
		return err
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	if err := unix.Mknod(path, node.Mode, int(node.Rdev)); err != nil {
		return err
	}
	return errors.Join(os.Chown(path, int(node.Uid), int(node.Gid)), unix.Chmod(path, node.Mode&0o7777)) // whatever the umask
}

// addFull makes the device /dev/full, which Apptainer leaves out.
func addFull() error {
	const full = "/dev/full"
	err := unix.Mknod(full, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 7)))
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	if err == nil {
		err = os.Chmod(full, 0o666) // whatever the umask
	}
	return err
}

// readOnly makes a path of /proc read-only by a bind on itself.
func readOnly(path string) error { return bindClosed(path, path) }

// bindClosed binds a path on another, read-only.
func bindClosed(from, path string) error {
	if err := unix.Mount(from, path, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	return unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|closed, "")
}

// hideKernelFiles closes files for root of a machine to read the kernel's memory, switch devices or read the log.
// Kernels differ in these files.
func hideKernelFiles() error {
	for _, name := range []string{"acpi", "asound", "bus", "driver", "fs", "irq", "mtrr", "scsi"} {
		if err := whereItIs(readOnly("/proc/" + name)); err != nil {
			return fmt.Errorf("/proc/%s: %w", name, err)
		}
	}
	for _, name := range []string{
		"kallsyms", "kcore", "keys", "kmsg", "kpagecgroup", "kpagecount", "kpageflags", "latency_stats", "sched_debug",
		"sysrq-trigger", "timer_list",
	} {
		if err := whereItIs(unix.Mount("/dev/null", "/proc/"+name, "", unix.MS_BIND, "")); err != nil {
			return fmt.Errorf("/proc/%s: %w", name, err)
		}
	}
	for _, name := range []string{"firmware", "fs/bpf", "kernel/debug", "kernel/security", "kernel/tracing"} {
		err := unix.Mount("tmpfs", "/sys/"+name, "tmpfs", unix.MS_RDONLY|closed, "size=4k,mode=755")
		if err := whereItIs(err); err != nil {
			return fmt.Errorf("/sys/%s: %w", name, err)
		}
	}
	return nil
}

// whereItIs drops the error for a missing path.
func whereItIs(err error) error {
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// unitMasks is where systemd finds the masks, ahead of an administrator's own units.
const unitMasks = "/run/systemd/system.control"

// maskUnits masks units for the systemd of an image. systemd takes the first file of a unit's name, and looks in two
// places before an administrator's own: in /etc/systemd/system.control, where "systemctl set-property" writes, and in
// its like below /run. systemd leaves a /run alone that is mounted already. An image without systemd keeps its own /run.
func maskUnits() error {
	path, _ := filepath.EvalSymlinks(initPath)
	if filepath.Base(path) != "systemd" && !files.Exists("/lib/systemd/systemd") {
		return nil
	}
	masks, err := os.ReadFile(filepath.Join(Dir, Masks))
	if err == nil {
		err = unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755,size=20%,nr_inodes=800k")
	}
	if err == nil {
		err = os.MkdirAll(unitMasks, 0o755)
	}
	for _, unit := range strings.Fields(string(masks)) {
		err = errors.Join(err, maskUnit(unit))
	}
	return err
}

// maskUnit masks a unit by an empty file (systemd.unit(5)). A link to /dev/null would mask the unit as well, but systemd
// takes ten system calls to follow each such link, before its first unit starts. To make an empty file takes one system
// call by mknod(2), and eight by os.WriteFile.
func maskUnit(unit string) error {
	return emptyFile(filepath.Join(unitMasks, unit))
}

// emptyFile makes an empty file. The error wraps fs.ErrExist where there is a file.
func emptyFile(path string) error {
	if err := unix.Mknod(path, unix.S_IFREG|0o644, 0); err != nil {
		return &os.PathError{Op: "mknod", Path: path, Err: err}
	}
	return nil
}

// JournalDir is where a box finds memory of the host for its journal, until the journal's place is mounted.
const JournalDir = "/etc/boxrun/journal"

// journals is where journald keeps journals, in an image with the directory.
const journals = "/var/log/journal"

// volatile reports whether a box of the profile keeps everything below a path of its own in memory.
func volatile(p profiles.Profile, path string) bool {
	_, bound := p.Storage.Over(path)
	return p.Storage.Root != "overlay" && !bound
}

// keepJournal moves the memory of the host for the journal to where journald writes: to /var/log/journal of an image with
// that directory, if the box keeps it in memory, and else to the place of journals in memory. An image without systemd has
// no /run of boxrun's.
func keepJournal(inMemory bool) error {
	dir := "/run/log/journal"
	if !files.Exists(JournalDir) || !files.Exists("/run/systemd") {
		return nil
	}
	if info, err := os.Lstat(journals); inMemory && err == nil && info.IsDir() {
		dir = journals
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return unix.Mount(JournalDir, dir, "", unix.MS_MOVE, "")
}

// mountAtOnce mounts what systemd would start programs to mount, as its own units do. Where the image or the profile has a
// word on such a unit, the word holds.
func mountAtOnce() error {
	for _, m := range []struct{ kind, dir, unit, condition string }{
		{"mqueue", "/dev/mqueue", "dev-mqueue.mount", "/proc/sys/fs/mqueue"},
		{"hugetlbfs", "/dev/hugepages", "dev-hugepages.mount", "/sys/kernel/mm/hugepages"},
	} {
		own := "/etc/systemd/system/" + m.unit
		if !files.Exists("/run/systemd") || !files.Exists(m.condition) || isThere(own) || isThere(own+".d") ||
			isThere(filepath.Join(unitMasks, m.unit)) {
			continue
		}
		err := os.MkdirAll(m.dir, 0o755)
		if err == nil {
			err = unix.Mount(m.kind, m.dir, m.kind, unix.MS_NOSUID|unix.MS_NODEV, "")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", m.dir, err)
		}
	}
	return nil
}

// mountForSystemd mounts what a systemd without CAP_SYS_ADMIN expects to find: systemd gives up without a word where it
// cannot mount /run.
func mountForSystemd() error {
	for _, m := range []struct{ kind, dir, options string }{
		{"tmpfs", "/run/lock", "mode=1777,size=5m"},
		{"tmpfs", "/dev/shm", "mode=1777"},
		{"mqueue", "/dev/mqueue", ""},
	} {
		err := os.MkdirAll(m.dir, 0o755)
		if err == nil {
			err = unix.Mount(m.kind, m.dir, m.kind, unix.MS_NOSUID|unix.MS_NODEV, m.options)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", m.dir, err)
		}
	}
	return nil
}

// uncoverInit takes boxrun away from the path of the image's init. If the image's path is a link, boxrun lies on the
// link's target. Where the image has no init, Apptainer has made an empty file for the bind, in a layer that ends with
// the box. The file stays: its removal would leave a whiteout in an overlay, and hide the init of a mended image.
func uncoverInit() error {
	self, err := os.Stat("/proc/self/exe")
	if err != nil {
		return err
	}
	for {
		at, err := os.Stat(initPath)
		switch {
		case errors.Is(err, os.ErrNotExist):
			return errNoInit
		case err != nil:
			return err
		case os.SameFile(at, self):
			if err := unix.Unmount(initPath, unix.MNT_DETACH); err != nil {
				return err
			}
		case at.Size() == 0:
			return errNoInit
		default:
			return nil
		}
	}
}
