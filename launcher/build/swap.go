package build

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/launcher/storage"
)

// begin makes an empty place to build in, after what a build that was killed has left. It is for root alone, as what is
// half built may be without the modes that protect it.
func begin(s *box.Store, j building) error {
	if err := clean(s, j); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(j.image), 0o755); err != nil {
		return fmt.Errorf("making a place to build in: %w", err)
	}
	if err := errors.Join(os.Mkdir(j.work(), 0o700), os.Mkdir(j.temporary(), 0o700)); err != nil {
		return fmt.Errorf("making a place to build in: %w", err)
	}
	if !j.recipe.builtin() {
		return nil
	}
	return j.recipe.unpack(j.dir())
}

// clean removes what builds of the image have left: the place they were in, and sandboxes kept for boxes that have
// stopped. A sandbox that a box runs from is kept: without its files the box would be an empty shell that still runs.
func clean(s *box.Store, j building) error {
	boxes, err := s.All()
	if err != nil {
		return err
	}
	if _, err := j.keep(boxes); err != nil {
		return err
	}
	kept, err := j.kept()
	errs := []error{err, os.RemoveAll(j.work())}
	for _, path := range kept {
		id, err := box.Identify(path)
		ours := err == nil && path == box.KeptImage(j.image, id.Inode) // and not somebody's own of a like name
		if ours && !storage.RunFrom(boxes, j.image, id.Inode) {
			errs = append(errs, os.RemoveAll(path))
		}
	}
	return fault.Wrap("clearing up after a build", errors.Join(errs...))
}

// keep takes the sandbox that was swapped out to where it can stay, if a box runs from it, and gives that path.
func (j building) keep(boxes []*box.Box) (string, error) {
	id, err := box.Identify(j.made())
	if err != nil || !j.sandbox || !storage.RunFrom(boxes, j.image, id.Inode) {
		return "", files.IgnoreNotExist(err)
	}
	path := box.KeptImage(j.image, id.Inode)
	return path, os.Rename(j.made(), path)
}

// kept lists the sandboxes that were kept, and what is named like them.
func (j building) kept() ([]string, error) {
	dir, name := filepath.Split(j.image)
	entries, err := os.ReadDir(dir)
	var paths []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "."+name+".old-") {
			paths = append(paths, filepath.Join(dir, e.Name()))
		}
	}
	return paths, files.IgnoreNotExist(err)
}

// swap puts the new image in the place of what is there, at once: whoever starts a box gets the one or the other. It
// gives where a sandbox is kept that a box runs from.
func swap(s *box.Store, j building) (kept string, err error) {
	_, err = os.Lstat(j.image)
	if !j.sandbox || errors.Is(err, fs.ErrNotExist) {
		return "", fault.Wrap("putting the new image in place", os.Rename(j.made(), j.image))
	}
	err = unix.Renameat2(unix.AT_FDCWD, j.made(), unix.AT_FDCWD, j.image, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EXDEV) {
		return "", fault.Refused("remove the old image first, or put it on a local file system",
			"%s: its file system cannot exchange two directories: %v", j.image, err)
	}
	if err != nil {
		return "", fmt.Errorf("exchanging %s and %s: %w", j.made(), j.image, err)
	}
	boxes, err := s.All()
	if err != nil {
		return "", err
	}
	return j.keep(boxes)
}

// sync has the new image on the disk before its name leads to it: after a power cut it might be empty. That may take long.
func (j building) sync() error {
	file, err := os.Open(j.made())
	if err != nil {
		return err
	}
	defer file.Close()
	if j.sandbox {
		return unix.Syncfs(int(file.Fd()))
	}
	return file.Sync()
}

// builtImage is what is known of an image that boxrun has built: the file IMAGE.boxrun.json beside it. It is not a label in
// the image, as those are made by the definition; and not in boxrun's state, which the next boot empties.
type builtImage struct {
	Image       box.ImageID `json:"image"`           // the image it is about; where another is there by now, the record says nothing
	Before      box.ImageID `json:"before,omitzero"` // the one of boxrun's that it was to replace, and that a kill may have left
	Definition  string      `json:"definition"`      // as the profile named it
	Fingerprint string      `json:"fingerprint"`     // of the recipe: see recipe.fingerprint
	Built       time.Time   `json:"built"`
	Apptainer   string      `json:"apptainer"` // versions
	Boxrun      string      `json:"boxrun"`
}

func builtFile(image string) string { return image + ".boxrun.json" }

// readBuilt gives what is known of the image at a path without links. ok is false where boxrun did not build it, or it has
// been replaced or changed since, or its record makes no sense: unlike boxrun's state it outlives power cuts and boxruns.
func readBuilt(image string) (r builtImage, ok bool, err error) {
	file, err := openRegular(builtFile(image))
	if errors.Is(err, errNotRegular) {
		return r, false, nil
	}
	if err != nil {
		return r, false, files.IgnoreNotExist(err)
	}
	defer file.Close()
	text, err := io.ReadAll(file)
	if err != nil {
		return r, false, err
	}
	if box.DecodeState(text, &r) != nil {
		return builtImage{}, false, nil
	}
	id, err := box.Identify(image)
	return r, err == nil && id.Is(r.Image), files.IgnoreNotExist(err)
}

// ownImage gives the identity of the image at a path without links if it is as boxrun has built it, else the zero one.
func ownImage(image string) (box.ImageID, error) {
	r, ok, err := readBuilt(image)
	if err != nil || ok {
		return r.Image, err
	}
	id, err := box.Identify(image)
	if err != nil || !id.Is(r.Before) {
		return box.ImageID{}, files.IgnoreNotExist(err)
	}
	return id, nil
}

// note writes down what the image was built from that is about to be put in place: before, or a boxrun that is killed in
// between leaves an image that it would not know again.
func (j building) note(fingerprint, apptainer, boxrun string) error {
	id, err := box.Identify(j.made())
	if err != nil {
		return err
	}
	before, err := ownImage(j.image)
	if err != nil {
		return err
	}
	return box.WriteJSON(builtFile(j.image), builtImage{
		Image: id, Before: before, Definition: j.profile.Build.Definition, Fingerprint: fingerprint,
		Built: time.Now().UTC().Truncate(time.Second), Apptainer: apptainer, Boxrun: boxrun,
	})
}
