package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// tree is the directory to copy from a box.
const tree = "/var/tree"

// trees make a directory to be copied with care.
func trees() []behaviour {
	all := []behaviour{
		{"tree-links", sh("ln -s /srv/canary a; ln -s ../../../../../../srv/canary b; ln -s /srv/canary/secret c; " +
			"ln -s / d; ln -s . e; ln -s /proc/self/root/srv f")},
		{"tree-setuid", sh("cp /bin/true a; chmod 6755 a; mkdir d; chmod 7777 d; " +
			"cp /bin/true d/b; chmod 4711 d/b; setcap cap_sys_admin+ep d/b || true")},
		{"tree-capability", func() error {
			// version 2, effective, CAP_SYS_ADMIN
			value := []byte{1, 0, 0, 2, 0, 0, 32, 0, 0, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0}
			if err := sh("cp /bin/true a")(); err != nil {
				return err
			}
			return unix.Setxattr(tree+"/a", "security.capability", value, 0)
		}},
		{"tree-specials", func() error {
			_, err := net.Listen("unix", tree+"/socket")
			if err != nil {
				return err
			}
			return unix.Mkfifo(tree+"/fifo", 0o666)
		}},
		{"tree-nasty", func() error { return os.WriteFile(tree+"/"+nasty, []byte(nasty), 0o600) }},
		{"tree-nasty-fifo", func() error { return unix.Mkfifo(tree+"/"+nasty, 0o600) }},
		{"tree-deep", deep},
		{"tree-wide", func() error {
			for i := range 20_000 {
				if err := os.WriteFile(fmt.Sprintf("%s/%d", tree, i), nil, 0o600); err != nil {
					return err
				}
			}
			return nil
		}},
		{"tree-sparse", func() error { return errorsOf(os.WriteFile(tree+"/a", nil, 0o600), os.Truncate(tree+"/a", 1<<40)) }},
		{"tree-growing", growing},
		{"tree-swapped", swapped},
		{"tree-file", sh("cd /; rmdir " + tree + "; echo file > " + tree)},
		{"tree-fifo", sh("cd /; rmdir " + tree + "; mkfifo " + tree)},
		{"tree-link", sh("cd /; rmdir " + tree + "; ln -s /srv/canary " + tree)},
		{"tree-proc", sh("cd /; rmdir " + tree + "; ln -s /proc/1/root/proc/1 " + tree)},
	}
	for i, b := range all {
		all[i].play = func() error {
			if err := os.MkdirAll(tree, 0o755); err != nil {
				return err
			}
			if err := os.Chdir(tree); err != nil {
				return err
			}
			return b.play()
		}
	}
	return all
}

func errorsOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// deep makes directories below each other, of a path longer than the kernel takes.
func deep() error {
	for range 300 {
		name := strings.Repeat("d", 60)
		if err := errorsOf(os.Mkdir(name, 0o755), os.Chdir(name)); err != nil {
			return err
		}
	}
	return nil
}

// growing has a file grow while the file is copied, up to 100 MB.
func growing() error {
	f, err := os.Create(tree + "/a")
	if err != nil {
		return err
	}
	block := make([]byte, 1<<16)
	left := 1600
	forever(time.Millisecond, func() {
		if left--; left > 0 {
			_, _ = f.Write(block)
		}
	})
	return nil
}

// swapped swaps a directory for a link to a directory of the host, again and again.
func swapped() error {
	if err := sh("mkdir d; echo mine > d/secret; ln -s /srv/canary l")(); err != nil {
		return err
	}
	forever(200*time.Microsecond, func() {
		_ = unix.Renameat2(unix.AT_FDCWD, tree+"/d", unix.AT_FDCWD, tree+"/l", unix.RENAME_EXCHANGE)
	})
	return nil
}
