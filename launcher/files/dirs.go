package files

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// A Removal takes files and directories away. Do removes them, Command is what a person types to remove the same.
// Whatever is missing by then is no error.
type Removal struct {
	Paths   []string
	Mounted bool // a file system may be mounted on each path, and is unmounted first
	IfEmpty bool // a mount point, or a directory with something inside, stays; false: all goes, with everything inside
}

// Do removes the paths, in this order, and goes on past errors.
func (r Removal) Do() error {
	var errs []error
	for _, path := range r.Paths {
		if err := r.unmount(path); err != nil {
			errs = append(errs, err)
			continue
		}
		if !r.IfEmpty {
			errs = append(errs, os.RemoveAll(path))
		} else if err := os.Remove(path); !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EBUSY) {
			errs = append(errs, IgnoreNotExist(err))
		}
	}
	return errors.Join(errs...)
}

// unmount takes away what is mounted on a path, if anything may be.
func (r Removal) unmount(path string) error {
	if !r.Mounted {
		return nil
	}
	err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "unmounting", Path: path, Err: err}
	}
	return nil
}

// Command returns the bash command for the removal.
func (r Removal) Command() string {
	if r.Mounted {
		return "umount -l " + QuoteAll(r.Paths) + " 2>/dev/null || true; " + Removal{Paths: r.Paths}.Command()
	}
	if r.IfEmpty {
		return RemoveEmptyCommand(r.Paths...)
	}
	return "rm -rf " + QuoteAll(r.Paths)
}

// RemoveEmptyCommand returns the command to remove the given directories, in this order. Directories missing by then or
// not empty are no error.
func RemoveEmptyCommand(dirs ...string) string {
	return "rmdir --ignore-fail-on-non-empty " + QuoteAll(dirs) + " 2>/dev/null || true"
}

// Mkdirs makes directories owned by root and readable by everyone, whatever the umask: the box has users other than
// root. Existing directories are skipped.
func Mkdirs(dirs []string) error {
	for _, dir := range dirs {
		err := os.Mkdir(dir, 0o755)
		if errors.Is(err, fs.ErrExist) {
			continue // another box has just made the directory for itself
		}
		if err == nil {
			err = os.Chmod(dir, 0o755)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// MissingDirs returns the directories to make so that dirs exist. Each appears once, before the directories inside.
func MissingDirs(dirs []string) []string {
	var missing []string
	for _, dir := range dirs {
		var up []string
		for there := Existing(dir); dir != there; dir = filepath.Dir(dir) {
			up = append(up, dir)
		}
		for _, d := range slices.Backward(up) {
			if !slices.Contains(missing, d) {
				missing = append(missing, d)
			}
		}
	}
	return missing
}

// Unmade returns the removal of directories returned by MissingDirs and made since.
func Unmade(dirs []string) Removal {
	backwards := slices.Clone(dirs)
	slices.Reverse(backwards)
	return Removal{Paths: backwards, IfEmpty: true}
}
