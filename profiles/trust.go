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
	Hint    string // the command that puts it right
}

func (e *TrustError) Error() string {
	return fmt.Sprintf("not using %s as root: %s %s", e.File, e.Path, e.Problem)
}

// RootAlone is the invoking user that Trusted is told of where there is none: nobody is at the terminal at boot.
const RootAlone = -1

// Trusted refuses, with a TrustError, a profile that anybody but root and the invoking user could have written, because
// root does what it says: the file, every directory above it, every symbolic link on the way and every directory above
// what it leads to must be owned by one of the two, and be writable for nobody else. invoker is a user id, or RootAlone. A
// built-in profile is trusted.
//
// A directory with the sticky bit, such as /tmp, may be writable for others: in it nobody but the owner of an entry (and
// that of the directory) can rename or remove it, and who owns the entry is checked. An access control list shows as the
// group's bits of the mode, so it is seen too.
//
// What was found holds while nobody whom it trusts changes something: no other can.
func Trusted(file string, invoker int) error {
	if strings.HasPrefix(file, builtinPrefix) {
		return nil
	}
	abs, err := filepath.Abs(file)
	if err != nil {
		return fmt.Errorf("finding the directory of %s: %w", file, err)
	}
	t := truster{file, invoker}
	err = Way(abs, t.check)
	var untrusted *TrustError
	if err != nil && !errors.As(err, &untrusted) {
		return fmt.Errorf("checking who can write %s: %w", file, err)
	}
	return err
}

// A truster judges what is on the way to a file.
type truster struct {
	file    string
	invoker int
}

// check refuses one file, directory or link that others can change.
func (t truster) check(path string, info fs.FileInfo) error {
	owner := int(info.Sys().(*syscall.Stat_t).Uid)
	if owner != 0 && owner != t.invoker {
		return &TrustError{t.file, path, fmt.Sprintf("belongs to user %d", owner), chown(path, info)}
	}
	if who := writers(info.Mode()); who != "" {
		return &TrustError{t.file, path, "is writable for " + who, "chmod go-w " + path}
	}
	return nil
}

func chown(path string, info fs.FileInfo) string {
	if info.Mode()&fs.ModeSymlink != 0 {
		return "chown -h root " + path
	}
	return "chown root " + path
}

// Way goes to a file, an absolute path, as the kernel does, and has check see all that it comes over, first to last: every
// directory from / on, every symbolic link, every directory above what that leads to, and the file. No path that check is
// given has a link in it but as its last part. Some come more than once. The first error ends it.
func Way(file string, check func(path string, info fs.FileInfo) error) error {
	w := way{check: check, links: 40} // as many as the kernel follows (MAXSYMLINKS)
	return w.walk("/", strings.Split(file, "/"))
}

type way struct {
	check func(path string, info fs.FileInfo) error
	links int // how many more symbolic links are followed
}

// walk checks dir, which has no symbolic links, then goes on from it along the names.
func (w *way) walk(dir string, names []string) error {
	if err := w.look(dir); err != nil {
		return err
	}
	for i, name := range names {
		if name == "" || name == "." {
			continue
		}
		dir = filepath.Join(dir, name) // for ".." this is right, as dir has no links
		if err := w.look(dir); err != nil {
			return err
		}
		target, err := os.Readlink(dir)
		if errors.Is(err, syscall.EINVAL) { // not a link
			continue
		}
		if err != nil {
			return err
		}
		return w.follow(dir, target, names[i+1:])
	}
	return nil
}

// follow goes on where a link leads to, with the names behind it.
func (w *way) follow(link, target string, rest []string) error {
	if w.links--; w.links < 0 {
		return syscall.ELOOP
	}
	from := filepath.Dir(link)
	if filepath.IsAbs(target) {
		from = "/"
	}
	return w.walk(from, append(strings.Split(target, "/"), rest...))
}

func (w *way) look(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	return w.check(path, info)
}

// writers names who besides the owner can write, "" for nobody. A link has no mode of its own.
func writers(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeSymlink != 0, mode.IsDir() && mode&fs.ModeSticky != 0:
		return ""
	case mode&0o002 != 0:
		return "everybody"
	case mode&0o020 != 0:
		return "its group"
	}
	return ""
}
