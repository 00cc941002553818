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

// ownSources returns the sources of binds below the box's own directory. A start makes the missing sources.
func ownSources(p profiles.Profile) []string {
	var own []string
	for _, b := range p.Storage.Binds {
		if strings.HasPrefix(b.Source, profiles.OwnDir(p.Name)+"/") {
			own = append(own, b.Source)
		}
	}
	return own
}

// madeAtStart reports whether a bind's source is missing and a start will make a directory there.
func madeAtStart(p profiles.Profile, source string) bool {
	_, err := os.Lstat(source)
	return errors.Is(err, fs.ErrNotExist) && slices.Contains(ownSources(p), source)
}

// makeDirs makes the missing directories of dirs, with the directories above. key is the profile's key for dirs, for
// messages. makeDirs saves the list of directories before making them, so a failed start leaves none behind. Another
// start may be failing and remove a shared directory while it is still empty: makeDirs then makes and lists the
// directory again. Error: ErrInvalid if a directory can never be made.
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
		case !errors.Is(err, fs.ErrNotExist): // a full or read-only disk: a later up may succeed
			return fmt.Errorf("%s: %s: %w", p.File, key, err)
		}
	}
}

// mkdirs makes directories owned by root and readable by everyone, whatever the umask: the box has users other than
// root. Existing directories are skipped.
func mkdirs(dirs []string) error {
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

// missingDirs returns the directories to make so that dirs exist. Each appears once, before the directories inside.
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

// removeEmptyDirs removes directories returned by missingDirs and made since. Directories with content stay.
func removeEmptyDirs(dirs []string) error {
	var errs []error
	for _, dir := range slices.Backward(dirs) {
		if err := os.Remove(dir); !errors.Is(err, unix.ENOTEMPTY) {
			errs = append(errs, ignoreNotExist(err))
		}
	}
	return errors.Join(errs...)
}
