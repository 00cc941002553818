package profiles

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// TrustError says that somebody else could have written a profile.
type TrustError struct {
	File    string // the profile
	Path    string // what others can write: the profile, a directory above it, or a symbolic link on the way
	Problem string // how
	Hint    string // what to do about this
}

func (e *TrustError) Error() string {
	return fmt.Sprintf("not using %s as root: %s %s", e.File, e.Path, e.Problem)
}

// RootAlone is the invoker for Trusted when no user invokes boxrun: nobody is at the terminal at boot.
const RootAlone = -1

// Trusted refuses a profile, with a TrustError, if anybody except root and the invoking user could have written the
// profile: root does what a profile says. The following must belong to root or to invoker and be writable for nobody
// else: the file, every directory above the file, every symbolic link on the way, and every directory above the target
// of a link. invoker is a user id, or RootAlone. A built-in profile is trusted.
//
// A directory with the sticky bit, such as /tmp, may be writable for others. In such a directory only the owner of an
// entry (and the owner of the directory) can rename or remove the entry, and Trusted checks the owner of the entry. A
// group that only the owner is in is the owner. An access control list shows in the group bits of the mode, so Trusted
// sees access control lists too.
//
// The result holds until root or invoker changes something. Nobody else can.
func Trusted(file string, invoker int) error {
	if strings.HasPrefix(file, builtinPrefix) {
		return nil
	}
	abs, err := filepath.Abs(file)
	if err != nil {
		return fmt.Errorf("finding the directory of %s: %w", file, err)
	}
	err = Way(abs, func(path string, info fs.FileInfo) error {
		owner := int(info.Sys().(*syscall.Stat_t).Uid)
		if owner != 0 && owner != invoker {
			return &TrustError{file, path, fmt.Sprintf("belongs to user %d", owner), ofRoot}
		}
		if who := writers(info.Mode()); who != "" && (who != itsGroup || !ownGroupOnly(path, info)) {
			return &TrustError{file, path, "is writable for " + who, "look through it first, then chmod go-w " + shellWord(path)}
		}
		return nil
	})
	var untrusted *TrustError
	if err != nil && !errors.As(err, &untrusted) {
		return fmt.Errorf("checking who can write %s: %w", file, err)
	}
	return err
}

// ofRoot is the hint for what somebody else owns: given to root, it would hold what somebody else wrote.
const ofRoot = "have root write it in a directory of root's, as /etc/boxrun/profiles; what others wrote is not made safe by chown"

// shellWord returns a path as a word for a shell.
func shellWord(path string) string {
	if strings.Trim(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+@%,=:") == "" {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}

// Way walks to file, an absolute path, as the kernel does, and calls check for everything on the way, first to last:
// every directory from / on, every symbolic link, every directory above the target of a link, and the file. In the
// paths given to check, only the last part may be a link. Way may call check several times for a path. The first error
// ends the walk.
func Way(file string, check func(path string, info fs.FileInfo) error) error {
	path, names := "/", strings.Split(file, "/")
	for links := 0; ; {
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		if err := check(path, info); err != nil {
			return err
		}
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			if links++; links > 40 { // the limit of the kernel (MAXSYMLINKS)
				return syscall.ELOOP
			}
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			names = append(strings.Split(target, "/"), names...)
			path = filepath.Dir(path)
			if filepath.IsAbs(target) {
				path = "/"
			}
		case len(names) == 0:
			return nil
		default:
			path, names = filepath.Join(path, names[0]), names[1:] // correct for ".." too, as path has no links
		}
	}
}

const itsGroup = "its group"

// writers names who can write besides the owner; "" for nobody. A link has no mode of its own, so nobody can.
func writers(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeSymlink != 0, mode.IsDir() && mode&fs.ModeSticky != 0:
		return ""
	case mode&0o002 != 0:
		return "everybody"
	case mode&0o020 != 0:
		return itsGroup
	}
	return ""
}
