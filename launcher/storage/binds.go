package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"boxrun/launcher/apptainer"
	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/profiles"
)

// RefuseImage requires a file in a format of Apptainer's, or a directory with an init inside: all else is an ErrRefused.
// search is where a person finds profiles; the hint names the profile accordingly.
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
		return fault.Refused(hint, "%s: image: %s", p.File, files.NoSuchPath(p.Image))
	}
	if err == nil && !info.IsDir() {
		return refuseFormat(p, info)
	}
	if err != nil || hasInit(p.Image) {
		return err
	}
	return fault.Refused(apptainer.Hint("no /sbin/init", p.Image), "%s: image: %q has no /sbin/init", p.File, p.Image)
}

// refuseFormat requires a file in a format of Apptainer's. A file that cannot be read is left to Apptainer.
func refuseFormat(p profiles.Profile, info fs.FileInfo) error {
	is := false
	if info.Mode().IsRegular() {
		header := make([]byte, 2048)
		file, err := os.Open(p.Image)
		if err != nil {
			return nil //nolint:nilerr // root may read it
		}
		defer file.Close()
		if _, err := io.ReadFull(file, header); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("looking at the image: %w", err)
		}
		is = isImage(header)
	}
	if is {
		return nil
	}
	return fault.Refused("image is a SIF, as \"boxrun build\" or \"apptainer build\" makes, or a directory with a root file system",
		"%s: image: %q is no image", p.File, p.Image)
}

// isImage reports whether a file with this beginning may be an image (github.com/apptainer/apptainer, internal/pkg/image):
// a SIF, a squashfs or an ext3. The first two may begin with a line that runs them.
func isImage(header []byte) bool {
	return bytes.HasPrefix(header, []byte("#!")) || bytes.HasPrefix(header[32:], []byte("SIF_MAGIC\x00")) ||
		bytes.HasPrefix(header, []byte("hsqs")) || bytes.HasPrefix(header[1024+56:], []byte{0x53, 0xef})
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
				"%s: storage.binds[%d]: %s", p.File, i, files.NoSuchPath(b.Source)))
			continue
		}
		errs = append(errs, RefuseThrough(p, fmt.Sprintf("storage.binds[%d]", i), b.Source))
	}
	if p.Storage.Root == "overlay" {
		errs = append(errs, RefuseThrough(p, "storage.overlay", p.Storage.Overlay))
	}
	return errors.Join(errs...)
}
