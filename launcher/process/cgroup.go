package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"boxrun/launcher/fault"
	"boxrun/launcher/files"
)

// scopeTimeout is how long the host's systemd may take to remove a scope that is empty.
const scopeTimeout = 500 * time.Millisecond

// KillCgroup kills the box's cgroup, if init is in the cgroup and the box has the cgroup to itself. The path is as old
// as the start of the box, and may name something else by now.
func KillCgroup(init Process, cgroup string) error {
	if cgroup == "" {
		return nil
	}
	now, err := CgroupOf(init.PID)
	if errors.Is(err, os.ErrProcessDone) || err == nil && now != cgroup {
		return nil
	}
	if err != nil {
		return err
	}
	err = files.WriteExisting(filepath.Join(cgroup, "cgroup.kill"), "1")
	return fault.Wrap("killing the box's cgroup", files.IgnoreNotExist(err)) // no such file before Linux 5.14
}

// CgroupOf returns the directory of the box's own cgroup. pid is the box's init, a child of Apptainer's master. The
// result is "" if the cgroup also holds boxrun or the master, is the root, or lies outside the mount here. The error is
// os.ErrProcessDone if the process is gone. systemd puts itself into init.scope below the cgroup of its start, so
// init.scope is cut off.
func CgroupOf(pid int) (string, error) {
	parent, err := ParentOf(pid)
	if err != nil {
		return "", err
	}
	paths := make([]string, 3)
	for i, p := range []int{pid, parent, os.Getpid()} {
		if paths[i], err = CgroupPath(p); err != nil {
			return "", err
		}
	}
	own, ok := OwnCgroup(paths[0], paths[1:])
	mount := CgroupMount()
	if !ok || mount == "" {
		return "", nil
	}
	return filepath.Join(mount, own), nil
}

// OwnCgroup returns the cgroup of a box with init in path. ok is false if the cgroup also holds a cgroup of others, or
// is not below the root.
func OwnCgroup(path string, others []string) (own string, ok bool) {
	own = strings.TrimSuffix(path, "/init.scope")
	if own == "" || own == "/" || strings.HasPrefix(own, "/..") {
		return "", false
	}
	for _, other := range others {
		if other == own || strings.HasPrefix(other, own+"/") {
			return "", false
		}
	}
	return own, true
}

// removed is what the kernel appends, in /proc/PID/cgroup, to the path of a cgroup that is gone.
const removed = " (deleted)"

// CgroupPath returns a process's cgroup of version 2, as in /proc/PID/cgroup; "/" for none. A process that waits to be
// reaped may have a cgroup that is gone.
func CgroupPath(pid int) (string, error) {
	text, err := read(pid, "cgroup")
	if err != nil {
		return "", fmt.Errorf("reading the cgroup of process %d: %w", pid, err)
	}
	for line := range strings.Lines(text) {
		if path, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			return strings.TrimSuffix(path, removed), nil
		}
	}
	return "/", nil
}

// CgroupMount returns the mount point of version 2 cgroups; "" for none. Older hosts mount version 2 beside version 1.
func CgroupMount() string {
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var fs unix.Statfs_t
		if err := unix.Statfs(dir, &fs); err == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC {
			return dir
		}
	}
	return ""
}

// InstancesCgroup returns the cgroup that holds the cgroups of Apptainer's instances where no systemd runs the host. The
// first instance makes it, and nobody removes it. Without cgroups of the second version the result is "".
func InstancesCgroup() string {
	mount := CgroupMount()
	if mount == "" {
		return ""
	}
	return filepath.Join(mount, "apptainer")
}

// UnifiedHint is the advice for a host without UnifiedCgroups.
const UnifiedHint = "boot the host with systemd.unified_cgroup_hierarchy=1 on the kernel's command line"

// UnifiedCgroups reports whether the host has cgroups of the second version alone, as a systemd of 258 or newer in a
// box needs.
func UnifiedCgroups() bool { return CgroupMount() == "/sys/fs/cgroup" }

// RemoveCgroup removes the cgroup of a stopped box, and systemd's remains below. On a host run by systemd the cgroup is
// a scope, and systemd removes scopes itself; RemoveCgroup gives systemd scopeTimeout to do so.
func RemoveCgroup(ctx context.Context, cgroup string) error {
	for began := time.Now(); files.Exists(cgroup) && time.Since(began) < scopeTimeout; {
		if err := Sleep(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	return SweepCgroup(cgroup)
}

// SweepCgroup removes the cgroup of a box that has ended, and what Apptainer makes in the cgroup's place: a command that
// enters a box takes the path from /proc/PID/cgroup of the box's init, and makes what is missing of the path, also when
// the kernel has put removed behind the path of an init that is dead. A cgroup that holds a process stays: the box
// runs, the cgroup is another box's by now, or a command is about to end, whose boxrun sweeps in turn.
func SweepCgroup(cgroup string) error {
	for _, dir := range []string{cgroup, cgroup + removed} {
		if cgroup == "" || Populated(dir) {
			return nil
		}
		if err := RemoveTree(dir); err != nil && !errors.Is(err, unix.EBUSY) { // busy: with a process since
			return err
		}
	}
	return nil
}

// Populated reports whether a process is in the cgroup or below.
func Populated(cgroup string) bool {
	events, err := os.ReadFile(filepath.Join(cgroup, "cgroup.events"))
	return err == nil && strings.Contains(string(events), "populated 1")
}

// RemoveTree removes a cgroup and all cgroups below. The files in a cgroup cannot be removed, and vanish with the
// directory.
func RemoveTree(cgroup string) error {
	entries, err := os.ReadDir(cgroup)
	if err != nil {
		return fault.Wrap("removing cgroup", files.IgnoreNotExist(err))
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := RemoveTree(filepath.Join(cgroup, e.Name())); err != nil {
				return err
			}
		}
	}
	return fault.Wrap("removing cgroup "+cgroup, files.IgnoreNotExist(unix.Rmdir(cgroup)))
}
