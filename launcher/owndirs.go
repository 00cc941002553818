package launcher

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"boxrun/profiles"
)

// ownSources gives the sources of binds that are below the box's own directory: a start makes those that are missing.
func ownSources(p profiles.Profile) []string {
	var own []string
	for _, b := range p.Storage.Binds {
		if strings.HasPrefix(b.Source, profiles.OwnDir(p.Name)+"/") {
			own = append(own, b.Source)
		}
	}
	return own
}

// madeAtStart says whether nothing is at the source of a bind, and a start will make a directory there.
func madeAtStart(p profiles.Profile, source string) bool {
	_, err := os.Lstat(source)
	return errors.Is(err, fs.ErrNotExist) && slices.Contains(ownSources(p), source)
}

// makeDirs makes those of dirs, which the profile's key names, that are missing, and the directories above them. It notes
// them before, so that a start that fails leaves none. One that has just failed may remove a directory above before
// something is in it: then it is made again, and noted.
func (s *Store) makeDirs(b *Box, p profiles.Profile, key string, dirs []string) error {
	const tries = 20 // one for each start that may fail meanwhile; below a link that leads nowhere all of them are in vain
	for try := 1; ; try++ {
		missing := missingDirs(dirs)
		if len(missing) == 0 {
			return nil
		}
		b.MadeDirs = append(b.MadeDirs, missing...)
		if err := s.save(b); err != nil {
			return err
		}
		err := mkdirs(missing)
		if err == nil {
			return nil
		}
		switch {
		case errors.Is(err, unix.ENOTDIR), errors.Is(err, fs.ErrNotExist) && try == tries:
			return invalid("name another directory", "%s: %s: %v", p.File, key, err)
		case !errors.Is(err, fs.ErrNotExist): // a full disk, or a read-only one: at the next try it may be none
			return fmt.Errorf("%s: %s: %w", p.File, key, err)
		}
	}
}

// mkdirs makes directories, root's and open to be read by everyone whatever the umask: the box's users are others than
// root.
func mkdirs(dirs []string) error {
	for _, dir := range dirs {
		err := os.Mkdir(dir, 0o755)
		if errors.Is(err, fs.ErrExist) {
			continue // another box has made it for its own meanwhile
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

// missingDirs gives the directories that have to be made for dirs to be there, each once and before those in it.
func missingDirs(dirs []string) []string {
	var missing []string
	for _, dir := range dirs {
		var up []string
		for there := existing(dir); dir != there; dir = filepath.Dir(dir) {
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

// removeEmptyDirs removes directories that missingDirs gave before they were made, but what something has been put into
// meanwhile.
func removeEmptyDirs(dirs []string) error {
	var errs []error
	for _, dir := range slices.Backward(dirs) {
		if err := os.Remove(dir); !errors.Is(err, unix.ENOTEMPTY) {
			errs = append(errs, ignoreNotExist(err))
		}
	}
	return errors.Join(errs...)
}
