package build

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/launcher/storage"
)

// begin removes the remains of a killed build and makes an empty directory to build in. Only root may enter the
// directory, because a half-built image may not have the file modes yet that protect its contents. For a builtin
// recipe begin also writes the recipe's files.
func (j building) begin() error {
	if err := j.clean(); err != nil {
		return err
	}
	place, err := j.place()
	if err != nil {
		return err
	}
	return place.Write()
}

// place returns the directories of the build, and in them the files of a builtin recipe.
func (j building) place() (files.Set, error) {
	const closed = fs.ModeDir | 0o700
	list, err := j.recipe.files()
	dirs := []files.File{files.Dir(filepath.Dir(j.image)), {Path: j.work(), Mode: closed}, {Path: j.temporary(), Mode: closed}}
	return files.Set{
		Doing: "making a place to build in", Files: append(dirs, unpacked(j.dir(), list).Files...),
	}, err
}

// clean removes what builds of the image left behind: their directory, and the sandboxes kept for boxes that have
// stopped. A sandbox stays while a box runs from it: without its files the box would still run, as an empty shell.
func (j building) clean() error {
	boxes, err := j.store.All()
	if err != nil {
		return err
	}
	if _, err := j.keep(boxes); err != nil {
		return err
	}
	kept, err := box.KeptImages(j.image)
	errs := []error{err, os.RemoveAll(j.work())}
	for _, path := range kept {
		id, err := box.Identify(path)
		if err == nil && !storage.RunFrom(boxes, j.image, id.Inode) {
			errs = append(errs, os.RemoveAll(path))
		}
	}
	return fault.Wrap("clearing up after a build", errors.Join(errs...))
}

// keep moves the replaced sandbox out of the build's directory if a box runs from it, and returns the new path.
// Otherwise keep returns "".
func (j building) keep(boxes []*box.Box) (string, error) {
	id, err := box.Identify(j.made())
	if err != nil || !j.sandbox || !storage.RunFrom(boxes, j.image, id.Inode) {
		return "", files.IgnoreNotExist(err)
	}
	path := box.KeptImage(j.image, id.Inode)
	return path, os.Rename(j.made(), path)
}

// swap puts the new image in place of the old image atomically: a box started meanwhile gets either the old or the
// new image. The returned path is where the old sandbox is kept for a box that runs from it, "" where no box does. A
// file system that cannot exchange two directories is an error, and nothing is changed.
func (j building) swap() (kept string, err error) {
	_, err = os.Lstat(j.image)
	if !j.sandbox || errors.Is(err, fs.ErrNotExist) {
		return "", fault.Wrap("putting the new image in place", os.Rename(j.made(), j.image))
	}
	err = unix.Renameat2(unix.AT_FDCWD, j.made(), unix.AT_FDCWD, j.image, unix.RENAME_EXCHANGE)
	switch {
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EXDEV):
		return "", fault.Refused("remove the old image first, or put it on a local file system",
			"%s: its file system cannot exchange two directories: %v", j.image, err)
	case err != nil:
		return "", fmt.Errorf("exchanging %s and %s: %w", j.made(), j.image, err)
	}
	boxes, err := j.store.All()
	if err != nil {
		return "", err
	}
	return j.keep(boxes)
}

// sync writes the new image to the disk before the image gets its final name: otherwise the image might be empty
// after a power cut. This may take long.
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

// builtImage is the record of an image boxrun has built, in the file IMAGE.boxrun.json beside the image. A label in
// the image would not do, because the definition makes the labels. boxrun's state would not do, because the next boot
// empties it.
type builtImage struct {
	Image       box.ImageID `json:"image"`           // for any other image at the path the record is void
	Before      box.ImageID `json:"before,omitzero"` // boxrun's image to be replaced, still there after a kill
	Definition  string      `json:"definition"`      // as named in the profile
	Fingerprint string      `json:"fingerprint"`     // of the recipe: see recipe.fingerprint
	Built       time.Time   `json:"built"`
	Apptainer   string      `json:"apptainer"` // versions
	Boxrun      string      `json:"boxrun"`
}

func builtFile(image string) string { return image + ".boxrun.json" }

// readBuilt returns the record of the image at a path without links. ok is false, without an error, where boxrun did
// not build the image, where the image was replaced or changed since, and where the record cannot be decoded: unlike
// boxrun's state the record outlives power cuts and versions of boxrun.
func readBuilt(image string) (r builtImage, ok bool, err error) {
	text, err := readRegular(builtFile(image), maxDefinition)
	switch {
	case err != nil && !errors.Is(err, errNotRegular):
		return r, false, files.IgnoreNotExist(err)
	case err != nil || box.DecodeState(text, &r) != nil:
		return builtImage{}, false, nil
	}
	id, err := box.Identify(image)
	return r, err == nil && id.Is(r.Image), files.IgnoreNotExist(err)
}

// ownImage returns the identity of the image at a path without links, if the image is as boxrun built it. Otherwise
// ownImage returns the zero identity.
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

// note completes the record of the new image, and writes it before the image is put in place. In the other order, a
// boxrun killed in between would leave an unknown image behind.
func (j building) note(r builtImage) (err error) {
	if r.Image, err = box.Identify(j.made()); err != nil {
		return err
	}
	if r.Before, err = ownImage(j.image); err != nil {
		return err
	}
	r.Built = time.Now().UTC().Truncate(time.Second)
	return box.WriteJSON(builtFile(j.image), r)
}
