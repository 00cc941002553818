package storage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
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

// Dirs are directories that a start makes where they are missing.
type Dirs struct {
	Key   string // the profile's key for the directories, for messages
	Paths []string
	Shut  string // closed to all but root: a directory with what root in the box writes, set-user-ID programs among it
}

// Needed returns the directories that a box of the profile writes: its overlay, its own sources of binds, and its
// journal on the host.
func Needed(p profiles.Profile) []Dirs {
	var needed []Dirs
	if p.Storage.Root == "overlay" {
		dirs := Dirs{overlayKey, []string{p.Storage.Overlay}, p.Storage.Overlay}
		if inImage(p) {
			dirs = Dirs{overlayKey, []string{filepath.Dir(p.Storage.Overlay)}, ""}
		}
		needed = append(needed, dirs)
	}
	if own := OwnSources(p); len(own) > 0 {
		needed = append(needed, Dirs{"storage.binds", own, profiles.OwnDir(p.Name)})
	}
	return append(needed, journalDirs(p)...)
}

const overlayKey = "storage.overlay"

// Command returns the bash command that makes the directories, and closes Shut.
func (d Dirs) Command() string {
	command := "mkdir -p " + files.QuoteAll(d.Paths)
	if d.toShut() {
		command += " && chmod go= " + files.Quote(d.Shut)
	}
	return command
}

// toShut reports whether a start closes Shut: a missing directory will be open, as is one made by an older boxrun or by
// hand. An overlay among other files stays as it is.
func (d Dirs) toShut() bool {
	info, err := os.Stat(d.Shut)
	if err != nil {
		return d.Shut != "" && errors.Is(err, fs.ErrNotExist)
	}
	return info.Mode().Perm()&0o077 != 0 && (d.Key != overlayKey || onlyOverlay(d.Shut))
}

// onlyOverlay reports whether a directory has nothing but what Apptainer and boxrun make in an overlay.
func onlyOverlay(dir string) bool {
	f, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer f.Close()
	names, err := f.Readdirnames(4)
	foreign := func(name string) bool { return name != "upper" && name != "work" && name != ownerName }
	return (err == nil || errors.Is(err, io.EOF)) && !slices.ContainsFunc(names, foreign)
}

// shut closes the directory Shut.
func (d Dirs) shut() error {
	if !d.toShut() {
		return nil
	}
	info, err := os.Stat(d.Shut)
	if err == nil {
		err = os.Chmod(d.Shut, info.Mode().Perm()&^0o077)
	}
	return fault.Wrap(d.Key, err)
}

// Make makes the missing directories, with the directories above, and closes Shut. Before making directories, Make saves
// their list, and whether the overlay is one of them, so a failed start leaves none behind. Another start may be failing and
// remove a shared directory while it is still empty: Make then makes and lists the directory again. Error: ErrRefused if a
// directory can never be made.
func (d Dirs) Make(s *box.Store, b *box.Box) error {
	const tries = 20 // one for each start that may fail meanwhile; below a link that leads nowhere all of them are in vain
	for try := 1; ; try++ {
		missing := files.MissingDirs(d.Paths)
		if len(missing) == 0 {
			return d.shut()
		}
		b.MadeOverlay = b.MadeOverlay || d.Key == overlayKey
		b.MadeDirs = append(b.MadeDirs, missing...)
		if err := s.Save(b); err != nil {
			return err
		}
		switch err := files.Mkdirs(missing); {
		case err == nil:
			return d.shut()
		case errors.Is(err, unix.ENOTDIR), errors.Is(err, fs.ErrNotExist) && try == tries:
			return fault.Refused("name another directory", "%s: %s: %v", b.Profile.File, d.Key, err)
		case !errors.Is(err, fs.ErrNotExist): // a full or read-only disk: a later up may succeed
			return fmt.Errorf("%s: %s: %w", b.Profile.File, d.Key, err)
		}
	}
}

// Made returns what a failed start made: its overlay, and its directories if empty. An overlay that another machine has
// claimed by now stays.
func Made(b *box.Box) []files.Removal {
	var made []files.Removal
	_, taken := TakenOver(b)
	if b.MadeOverlay && b.Overlay() != "" && !taken {
		made = append(made, files.Removal{Paths: []string{b.Overlay()}})
	}
	if file := beside(files.Resolved(b.Overlay())); inImage(b.Profile) && !taken && files.Exists(file) {
		made = append(made, files.Removal{Paths: []string{file}})
	}
	if len(b.MadeDirs) > 0 {
		made = append(made, files.Unmade(b.MadeDirs))
	}
	return made
}
