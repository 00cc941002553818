package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/profiles"
)

// OwnSources returns the sources of binds below the box's own directory. A start makes the missing sources.
func OwnSources(p profiles.Profile) []string {
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
	return errors.Is(err, fs.ErrNotExist) && slices.Contains(OwnSources(p), source)
}

// MakeDirs makes the missing directories of dirs, with the directories above. key is the profile's key for dirs, for
// messages. MakeDirs saves the list of directories before making them, so a failed start leaves none behind. Another
// start may be failing and remove a shared directory while it is still empty: MakeDirs then makes and lists the
// directory again. Error: ErrInvalid if a directory can never be made.
func MakeDirs(s *box.Store, b *box.Box, p profiles.Profile, key string, dirs []string) error {
	const tries = 20 // one for each start that may fail meanwhile; below a link that leads nowhere all of them are in vain
	for try := 1; ; try++ {
		missing := files.MissingDirs(dirs)
		if len(missing) == 0 {
			return nil
		}
		b.MadeDirs = append(b.MadeDirs, missing...)
		if err := s.Save(b); err != nil {
			return err
		}
		err := files.Mkdirs(missing)
		if err == nil {
			return nil
		}
		switch {
		case errors.Is(err, unix.ENOTDIR), errors.Is(err, fs.ErrNotExist) && try == tries:
			return fault.Invalid("name another directory", "%s: %s: %v", p.File, key, err)
		case !errors.Is(err, fs.ErrNotExist): // a full or read-only disk: a later up may succeed
			return fmt.Errorf("%s: %s: %w", p.File, key, err)
		}
	}
}
