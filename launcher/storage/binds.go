package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"boxrun/launcher/apptainer"
	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/profiles"
)

// RefuseImage requires a file, or a directory with an init inside. search is where a person finds profiles; the hint
// names the profile accordingly.
func RefuseImage(p profiles.Profile, search profiles.Search) error {
	if box.IsHello(p.Image) {
		return nil
	}
	info, err := os.Stat(p.Image)
	if errors.Is(err, fs.ErrNotExist) {
		hint := "put the image there, or correct image in " + p.File
		if p.Build.Definition != "" {
			hint = fmt.Sprintf("run \"boxrun build %[1]s\", or \"boxrun up --build %[1]s\"", search.Called(p))
		}
		return fault.Refused(hint, "%s: image: no such file or directory: %q", p.File, p.Image)
	}
	if err != nil || !info.IsDir() || hasInit(p.Image) {
		return err
	}
	return &fault.Problem{Kind: fault.ErrNotStarted,
		Text: fmt.Sprintf("%s: image: %q has no /sbin/init", p.File, p.Image),
		Hint: apptainer.Hint("no /sbin/init", p.Image)}
}

// hasInit reports whether a sandbox has a /sbin/init, following links inside the sandbox. If the sandbox cannot be
// read, hasInit returns true and leaves the judgement to Apptainer.
func hasInit(sandbox string) bool {
	root, err := os.OpenRoot(sandbox)
	if err != nil {
		return true
	}
	defer root.Close()
	_, err = root.Stat("sbin/init")
	return !errors.Is(err, fs.ErrNotExist)
}

// RefuseBinds requires every source to exist, except sources made at the start, and refuses sources the box could
// replace by a link.
func RefuseBinds(p profiles.Profile) error {
	var errs []error
	for i, b := range p.Storage.Binds {
		if _, err := os.Stat(b.Source); err != nil && !madeAtStart(p, b.Source) {
			errs = append(errs, fault.Refused("make it, or take the bind out",
				"%s: storage.binds[%d]: no such file or directory: %q", p.File, i, b.Source))
			continue
		}
		errs = append(errs, RefuseThrough(p, fmt.Sprintf("storage.binds[%d]", i), b.Source))
	}
	if p.Storage.Root == "overlay" {
		errs = append(errs, RefuseThrough(p, "storage.overlay", p.Storage.Overlay))
	}
	return errors.Join(errs...)
}
