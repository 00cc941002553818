package first

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/profiles"
)

// Write writes the text of a new profile called name into the current directory, and returns what to say then. The
// image named by a person has to be there; "" for none. A profile of the name is an ErrRefused and stays as it is.
func Write(name, image, text string) (note string, err error) {
	if strings.Contains(image, "://") {
		return "", &profiles.ImageError{Image: image}
	}
	if image != "" && !box.IsHello(image) {
		if _, err := os.Stat(image); errors.Is(err, fs.ErrNotExist) {
			return "", fault.Refused("name a SIF file, or a directory with a root file system", "image: %s", files.NoSuchPath(image))
		} else if err != nil {
			return "", fmt.Errorf("image: %w", err)
		}
	}
	next := fmt.Sprintf("\"boxrun up %s\" starts its box", name)
	if image == "" {
		next = fmt.Sprintf("set its image, then \"boxrun profile check %s\"", name)
	}
	return fmt.Sprintf("wrote %s.toml: %s", name, next), writeNew(name+".toml", text)
}

// writeNew writes a new file. An existing file is an ErrRefused and stays as it is. Where the disk is full nothing stays:
// half a profile would be in the way of the next try.
func writeNew(file, text string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fault.Refused("take another name, or move it away", "%s is there already", file)
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(file))
	}
	return nil
}
