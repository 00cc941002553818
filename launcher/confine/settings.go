package confine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"boxrun/launcher/files"
)

// boxrun writes a configuration for each box, which Apptainer binds into a confined box as one directory. The first process
// puts each file where the image's systemd looks, and takes the directory away: root in the box could remount it to be
// written, and boxrun writes there as root of the host.

// Dir is the path in the box of its configuration, until the image's init begins.
const Dir = "/etc/boxrun/box"

// Masks is the file of Dir with the units to mask, a line each.
const Masks = "masks"

// Names is the file of Dir with name servers, as of resolv.conf(5), and KeptNames its path in a box with systemd.
const (
	Names     = "resolv.conf"
	KeptNames = "/run/boxrun-resolv.conf"
)

// Resolved is the file of Dir with name servers for systemd-resolved.
const Resolved = "resolved.conf"

// DropIns returns the files of Dir that add to the configuration of systemd, each with its path below /etc or /run.
func DropIns() map[string]string {
	return map[string]string{
		"system.conf":   "/systemd/system.conf.d/90-boxrun.conf",
		"tasks.conf":    "/systemd/system.conf.d/91-boxrun.conf",
		"tmpfiles.conf": "/tmpfiles.d/boxrun.conf",
		Resolved:        "/systemd/resolved.conf.d/90-boxrun.conf",
	}
}

// placeSettings puts the files of Dir where the image's systemd looks, and takes Dir away. What boxrun writes anew while the
// box runs stays bound: the name servers. An image without systemd has no /run of boxrun's.
func placeSettings() error {
	var err error
	if files.Exists("/run/systemd") {
		err = placeFile(Names, KeptNames)
		for name, path := range DropIns() {
			err = errors.Join(err, placeFile(name, "/run"+path))
		}
	}
	return errors.Join(err, unix.Unmount(Dir, unix.MNT_DETACH))
}

// placeFile copies or binds a file of Dir to a path. A box without the file goes without.
func placeFile(name, path string) error {
	from := filepath.Join(Dir, name)
	info, err := os.Stat(from)
	if err != nil {
		return files.IgnoreNotExist(err)
	}
	text, err := os.ReadFile(from)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o755)
	}
	if err == nil {
		err = os.WriteFile(path, text, info.Mode().Perm())
	}
	if err == nil && (name == Names || name == Resolved) {
		err = bindClosed(from, path)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
