package testhost

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"boxrun/launcher/process"
)

const (
	prefix   = "boxrun-test-"     // begins every name of a host on the machine
	stateDir = "/run/boxrun-test" // for each host a directory and, beside it, NAME.owner, locked by the owning process
)

// lockOwner takes the lock of a name in use. The lock belongs to this process: the kernel drops the lock however the
// process ends, and commands started by the process do not inherit the lock. A name locked by another process is an
// EWOULDBLOCK.
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

// lockNames keeps others from taking names and from sweeping until unlock: between the making of an owner's file and its
// lock a sweep would take the owner for dead.
func lockNames() (unlock func() error, err error) {
	err = os.MkdirAll(stateDir, 0o755)
	if err != nil {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(stateDir, "names.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("locking %s: %w", file.Name(), err), file.Close())
	}
	return file.Close, nil
}

// sweep removes hosts with dead owners. Hosts with living owners are left alone, and so are names without prefix.
func sweep() error {
	unlock, err := lockNames()
	if err != nil {
		return err
	}
	return errors.Join(sweepLocked(), unlock())
}

func sweepLocked() error {
	owners, err := filepath.Glob(filepath.Join(stateDir, prefix+"*.owner"))
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
		cgroup := filepath.Join(process.CgroupMount(), name)
		errs = append(errs, killCgroup(cgroup), process.RemoveTree(cgroup), removeWire(name), remove(name))
		lock.Close()
	}
	return errors.Join(errs...)
}

// remove removes a dead host's client, mounts and directory, in this order, and goes on past errors.
func remove(name string) error {
	dir := filepath.Join(stateDir, name)
	errs := []error{
		removeNetns(clientName(name)),
		unmount(filepath.Join(dir, "disk/root")),
		unmount(filepath.Join(dir, "disk")),
	}
	if err := errors.Join(errs...); err != nil {
		return err // keep the directory: something is still mounted there
	}
	return errors.Join(os.RemoveAll(dir), os.RemoveAll(dir+".owner"))
}

// unmount detaches the mount on dir. A dir without a mount is no error.
func unmount(dir string) error {
	err := unix.Unmount(dir, unix.MNT_DETACH)
	if err == nil || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return fmt.Errorf("unmounting %s: %w", dir, err)
}

// killCgroup kills every process below cgroup and waits until all are gone. A missing cgroup has no processes.
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

// run runs a command of the machine to its end, within a minute. The error contains the command line and the output.
func run(argv ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return finish(exec.CommandContext(ctx, argv[0], argv[1:]...), strings.Join(argv, " "))
}

// finish runs a command to its end. The error says that what was run failed, with the last lines of the output.
func finish(cmd *exec.Cmd, what string) error {
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("running %s: %w\n%s", what, err, tail(string(out), 25))
	}
	return nil
}
