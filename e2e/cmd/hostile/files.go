package main

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A place is a file of a box, looked at by boxrun or needed by commands in the box.
type place struct{ name, path string }

func places() []place {
	return []place{
		{"passwd", "/etc/passwd"},
		{"group", "/etc/group"},
		{"locale", "/etc/locale.conf"},
		{"hosts", "/etc/hosts"},
		{"resolv", "/etc/resolv.conf"},
		{"machine-id", "/etc/machine-id"},
		{"private", "/run/systemd/private"},
		{"journal", "/run/systemd/journal/socket"},
		{"pts", "/dev/pts"},
		{"null", "/dev/null"},
		{"console", "/dev/console"},
		{"init", "/sbin/init"},
		{"shell", "/bin/bash"},
	}
}

// A form is what root of a box puts where a file is expected.
type form struct {
	name string
	put  func(path string) error
}

func forms() []form {
	return []form{
		{"fifo", func(path string) error { return unix.Mkfifo(path, 0o666) }},
		{"directory", func(path string) error { return os.Mkdir(path, 0o755) }},
		{"huge", func(path string) error { return errors.Join(os.WriteFile(path, nil, 0o755), os.Truncate(path, 1<<42)) }},
		{"nasty", func(path string) error { return os.WriteFile(path, []byte(lines()), 0o755) }},
		{"loop", func(path string) error { return os.Symlink(path, path) }},
		{"endless", func(path string) error { return os.Symlink("/dev/zero", path) }},
		{"outside", func(path string) error { return os.Symlink("/srv/canary/"+filepath.Base(path), path) }},
		{"magic", func(path string) error { return os.Symlink("/proc/1/root/proc/1/root/proc/kcore", path) }},
		{"silent", listen},
		{"gone", func(string) error { return nil }},
	}
}

// lines returns text with a well-formed line for each place, and control bytes in all lines.
func lines() string {
	beginnings := []string{"root:x:0:0:root:/root:/bin/sh", "nameserver 10.0.0.1", "LANG=C", "127.0.0.1 ", ""}
	return strings.Join(beginnings, nasty+"\n")
}

// files puts each form in each place.
func files() []behaviour {
	var all []behaviour
	for _, p := range places() {
		for _, f := range forms() {
			all = append(all, behaviour{p.name + "=" + f.name, func() error { return replace(p.path, f.put) }})
		}
	}
	return all
}

// replace puts something else where path is, and takes away what is mounted there.
func replace(path string, put func(string) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		path = filepath.Join(dir, filepath.Base(path))
	}
	for unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) == nil {
		continue
	}
	aside := path + ".aside"
	if strings.HasPrefix(path, "/dev/") {
		aside = "/run/aside"
	}
	if err := os.Rename(path, aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	return put(path)
}

// listen makes a silent socket at path: every connection is taken, and nothing is said.
func listen(path string) error {
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	go func() {
		for {
			if _, err := l.Accept(); err != nil {
				return
			}
		}
	}()
	return nil
}
