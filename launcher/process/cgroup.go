package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// scopeTimeout is how long the host's systemd may take to remove a scope that is empty.
const scopeTimeout = 500 * time.Millisecond

// KillCgroup kills the box's cgroup where init is in it, alone: the path was noted when the box started, and may name
// something else by now.
func KillCgroup(init Process, cgroup string) error {
	if cgroup == "" {
		return nil
	}
	if now, err := CgroupOf(init.PID); err != nil || now != cgroup {
		return ignoreDone(err)
	}
	f, err := os.OpenFile(filepath.Join(cgroup, "cgroup.kill"), os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("killing the box's cgroup: %w", err)
	}
	_, err = f.WriteString("1")
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("killing the box's cgroup: %w", err)
	}
	return nil
}

// CgroupOf gives the directory of the cgroup that a box has to itself, its init being the process pid, a child of
// Apptainer's master; "" where it has none: in a cgroup that holds boxrun or the master too, or is the root, or lies
// outside of what is mounted here. os.ErrProcessDone where there is no such process. systemd puts itself
// into init.scope below the cgroup it was started in.
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

// OwnCgroup gives the cgroup of a box whose init is in path; ok is false where one of others is in it as well, or it is
// not below the root.
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

// CgroupPath gives a process's cgroup of the second version, as /proc/PID/cgroup has it; "/" where there is none.
func CgroupPath(pid int) (string, error) {
	text, err := os.ReadFile(ProcFile(pid, "cgroup"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return "", fmt.Errorf("reading the cgroup of process %d: %w", pid, os.ErrProcessDone)
	}
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			return path, nil
		}
	}
	return "/", nil
}

// CgroupMount gives where cgroups of the second version are mounted, beside those of the first on older hosts; "" where
// they are not.
func CgroupMount() string {
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var fs unix.Statfs_t
		if err := unix.Statfs(dir, &fs); err == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC {
			return dir
		}
	}
	return ""
}

// RemoveCgroup removes the cgroup of a box that is gone, and what systemd left below it. On a host run by systemd it is
// a scope, which systemd removes itself.
func RemoveCgroup(ctx context.Context, cgroup string) error {
	if cgroup == "" {
		return nil
	}
	for began := time.Now(); time.Since(began) < scopeTimeout; {
		if _, err := os.Lstat(cgroup); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err := Sleep(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	if populated(cgroup) { // by then another box's, or of a command that somebody runs in it
		return nil
	}
	return RemoveTree(cgroup)
}

// populated says whether a process is in the cgroup or below it.
func populated(cgroup string) bool {
	events, err := os.ReadFile(filepath.Join(cgroup, "cgroup.events"))
	return err == nil && strings.Contains(string(events), "populated 1")
}

// RemoveTree removes a cgroup and those below it. What is in them besides directories cannot be removed and goes along.
func RemoveTree(cgroup string) error {
	entries, err := os.ReadDir(cgroup)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("removing cgroup: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := RemoveTree(filepath.Join(cgroup, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := unix.Rmdir(cgroup); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("removing cgroup %s: %w", cgroup, err)
	}
	return nil
}

func ignoreDone(err error) error {
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}
