package storage

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/profiles"
)

// A writable is a path of the host where root in the box can put anything.
type writable struct {
	key, path string
	hint      string // end of the advice on keeping both the path and something below the path
}

// writables returns the paths of the host the box can write: writable binds, and the overlay.
func writables(p profiles.Profile) []writable {
	var all []writable
	for i, b := range p.Storage.Binds {
		if !b.ReadOnly {
			all = append(all, writable{fmt.Sprintf("storage.binds[%d]", i), b.Source, ", or bind that with :ro"})
		}
	}
	if p.Storage.Root == "overlay" {
		all = append(all, writable{"storage.overlay", p.Storage.Overlay, ""})
	}
	return all
}

// RefuseThrough refuses a path of the host, set by key in the profile, if the way to the path leads through a writable
// of the box. Root in the box could put a link into the way, and the next start would follow the link to any file of
// root's. Error: ErrInvalid.
func RefuseThrough(p profiles.Profile, key, path string) error {
	dirs, err := above(path)
	if err != nil {
		return fmt.Errorf("%s: %s: looking at what is above %q: %w", p.File, key, path, err)
	}
	for _, w := range writables(p) {
		if slices.ContainsFunc(dirs, func(dir string) bool { return sameDir(w.path, dir) }) {
			return fault.Invalid("name a path that is not below it"+w.hint,
				"%s: %s: %q lies below %q of %s, where the box could put a link in its place", p.File, key, path, w.path, w.key)
		}
	}
	return nil
}

// above returns the directories the kernel passes on the way to a path, with links resolved. For a missing path the
// directories are the ones it would be in.
func above(path string) ([]string, error) {
	var dirs []string
	err := profiles.Way(files.Existing(path), func(at string, info fs.FileInfo) error {
		if info.IsDir() {
			dirs = append(dirs, at)
		}
		return nil
	})
	end := files.Resolved(path)
	for dir := end; dir != "/"; {
		dir = filepath.Dir(dir)
		dirs = append(dirs, dir)
	}
	return slices.DeleteFunc(dirs, func(dir string) bool { return dir == end }), files.IgnoreNotExist(err)
}
