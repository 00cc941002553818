package main

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// mounts hide what boxrun needs of a box, fill its file systems, and have looks at files wait for ever.
func mounts() []behaviour {
	var all []behaviour
	for _, dir := range []string{"/run", "/proc", "/dev", "/sys", "/etc", "/usr", "/var", "/tmp"} {
		all = append(all,
			behaviour{"mount-over-" + dir[1:], over(dir)},
			behaviour{"waits-" + dir[1:], func() error { return waits(dir) }})
	}
	for _, dir := range []string{"/run", "/proc", "/dev", "/sys", "/tmp"} {
		all = append(all, behaviour{"unmount-" + dir[1:], func() error { return unix.Unmount(dir, unix.MNT_DETACH) }})
	}
	return append(all, []behaviour{
		{"proc-forged", forged},
		{"mounts-many", sh("mkdir -p /run/many; for i in $(seq 1500); do mount -t tmpfs none /run/many; done")},
		{"mounts-nasty", func() error {
			dir := "/run/" + nasty
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			return unix.Mount(nasty, dir, "tmpfs", 0, "")
		}},
		{"full-run", fill("/run/full")},
		{"full-root", fill("/var/full")},
		{"full-tmp", fill("/tmp/full")},
		{"read-only", sh("mount -o remount,bind,ro /")},
		{"noexec", sh("mount -o remount,bind,noexec /")},
	}...)
}

func over(dir string) func() error {
	return func() error { return unix.Mount("none", dir, "tmpfs", 0, "size=1m") }
}

// waits mounts an autofs at dir. Every look below dir waits for the daemon of the autofs, and there is no daemon.
func waits(dir string) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	options := fmt.Sprintf("fd=%d,pgrp=%d,minproto=5,maxproto=5,indirect", w.Fd(), unix.Getpgrp())
	if err := unix.Mount("hostile", dir, "autofs", 0, options); err != nil {
		return err
	}
	forever(time.Second, func() { _ = r.Fd() })
	return nil
}

// silent is waits for a directory of the host, until the caller ends the process.
func silent(dir string) error {
	if err := waits(dir); err != nil {
		return err
	}
	time.Sleep(lasting)
	return unix.Unmount(dir, unix.MNT_DETACH)
}

func fill(path string) func() error {
	return func() error {
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		return flood(f, "full", 300<<20)
	}
}
