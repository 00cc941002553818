package testhost

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	prefix   = "boxrun-test-"     // of every name a host has on the machine
	stateDir = "/run/boxrun-test" // a directory per host, and beside it NAME.owner, locked by the process it belongs to
)

// lockOwner takes the lock that says name is in use. It is the process's: the kernel drops it however the process ends,
// and no command it starts inherits it.
func lockOwner(name string) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(stateDir, name+".owner"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		file.Close()
		return nil, fmt.Errorf("locking %s: %w", file.Name(), err)
	}
	return file, nil
}

// sweep removes hosts whose owner has died. One whose owner lives is left alone, and so is every name without prefix.
func sweep() error {
	owners, err := filepath.Glob(filepath.Join(stateDir, prefix+"*.owner"))
	if err != nil {
		return err
	}
	cgroups, err := cgroupMount()
	if err != nil {
		return err
	}
	var errs []error
	for _, owner := range owners {
		name := strings.TrimSuffix(filepath.Base(owner), ".owner")
		lock, err := lockOwner(name)
		if errors.Is(err, unix.EWOULDBLOCK) {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		cgroup := filepath.Join(cgroups, name)
		errs = append(errs, killCgroup(cgroup), removeCgroup(cgroup), removeWire(name), remove(name))
		lock.Close()
	}
	return errors.Join(errs...)
}

// remove takes away a dead host's client, mounts and directory, in this order, going on past errors.
func remove(name string) error {
	dir := filepath.Join(stateDir, name)
	errs := []error{
		removeNetns(clientName(name)),
		unmount(filepath.Join(dir, "disk/root")),
		unmount(filepath.Join(dir, "disk")),
	}
	if err := errors.Join(errs...); err != nil {
		return err // and keep the directory: something is still mounted in it
	}
	return errors.Join(os.RemoveAll(dir), os.RemoveAll(dir+".owner"))
}

// unmount detaches what is mounted on dir; nothing there is no error.
func unmount(dir string) error {
	err := unix.Unmount(dir, unix.MNT_DETACH)
	if err == nil || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return fmt.Errorf("unmounting %s: %w", dir, err)
}

// cgroupMount gives where the machine has cgroup2 mounted: beside version 1 hierarchies it is not /sys/fs/cgroup.
func cgroupMount() (string, error) {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if dash := slices.Index(fields, "-"); dash > 4 && fields[dash+1] == "cgroup2" {
			return fields[4], nil
		}
	}
	if err := lines.Err(); err != nil {
		return "", err
	}
	return "", errors.New("a test host needs cgroup2, and none is mounted here")
}

// killCgroup ends every process below cgroup and waits until they are gone. A cgroup that is not there has none.
func killCgroup(cgroup string) error {
	err := os.WriteFile(filepath.Join(cgroup, "cgroup.kill"), []byte("1"), 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("killing the processes of %s: %w", cgroup, err)
	}
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		events, err := os.ReadFile(filepath.Join(cgroup, "cgroup.events"))
		if err != nil {
			return err
		}
		if strings.Contains(string(events), "populated 0") {
			return nil
		}
	}
	return fmt.Errorf("killing the processes of %s: some live 20 s later", cgroup)
}

// removeCgroup removes cgroup and all below it, which have no processes any more.
func removeCgroup(cgroup string) error {
	var dirs []string
	err := filepath.WalkDir(cgroup, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, dir := range slices.Backward(dirs) {
		err = errors.Join(err, unix.Rmdir(dir))
	}
	return err
}

// run runs a command of the machine to its end, within a minute. The error carries what it was and what it said.
func run(argv ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("running %s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
