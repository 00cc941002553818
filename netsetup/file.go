package netsetup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// setupMark is in every file that [Setup] puts below /etc. A file with the mark is boxrun's, whoever edited the file
// since; a file of the same name without the mark is somebody else's.
const setupMark = "Written by \"boxrun host setup\""

// ErrForeign is in the chain of the error where something else than boxrun's file stands in a file's place.
var ErrForeign = errors.New("something is there that boxrun did not write")

// ErrReadOnly is in the chain of the error where a file cannot be put in place as the file system is read-only.
var ErrReadOnly = errors.New("the file system is read-only")

// File is a file of boxrun's among the host's configuration. The file holds boxrun's mark.
type File struct {
	Path   string  `json:"path"`
	Text   string  `json:"text"`             // holds the mark; "" where the file is to be gone
	Before *string `json:"before,omitempty"` // an older text of boxrun's: undo brings the text back
}

func (f *File) String() string { return f.Path }

// removeEmpty removes directories, in this order. A directory that is missing or not empty is no error.
func removeEmpty(dirs ...string) error {
	var errs []error
	for _, dir := range dirs {
		errs = append(errs, ignore(os.Remove(dir), unix.ENOTEMPTY, unix.EEXIST, fs.ErrNotExist))
	}
	return errors.Join(errs...)
}

// removeEmptyCommand is what a person types for removeEmpty.
func removeEmptyCommand(dirs ...string) string {
	return fmt.Sprintf("rmdir --ignore-fail-on-non-empty %s 2>/dev/null || true", strings.Join(dirs, " "))
}

func (f *File) commands() (up, down []string) {
	down = []string{"rm -f " + f.Path}
	if f.Text == "" {
		return down, down
	}
	return []string{fmt.Sprintf("cat > %s <<'EOF'\n%sEOF", f.Path, f.Text)}, down
}

// record refuses to write over what is not boxrun's: a file of somebody else, a link, a device.
func (f *File) record(*Kernel) error {
	f.Before = nil
	text, err := f.read()
	if err == nil {
		f.Before = &text
	}
	if f.Text == "" && errors.Is(err, ErrForeign) {
		return nil // nothing will be written there
	}
	return ignoreAbsent(err)
}

// read returns the text of the file. The error wraps ErrForeign where the file is not boxrun's.
func (f *File) read() (string, error) {
	info, err := os.Lstat(f.Path)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%w, and no file", ErrForeign)
	}
	text, err := os.ReadFile(f.Path)
	if err == nil && !strings.Contains(string(text), setupMark) {
		err = ErrForeign
	}
	return string(text), err
}

func (f *File) check(*Kernel) ([]string, error) {
	text, err := f.read()
	switch {
	case errors.Is(err, fs.ErrNotExist) && f.Text == "", errors.Is(err, ErrForeign) && f.Text == "":
		return nil, nil
	case errors.Is(err, fs.ErrNotExist):
		return []string{f.Path + " is missing"}, nil
	case err != nil:
		return []string{fmt.Sprintf("%s: %v", f.Path, err)}, nil
	case f.Text == "":
		return []string{f.Path + " is not needed any more"}, nil
	case text != f.Text:
		return []string{f.Path + " has been changed"}, nil
	}
	return nil, nil
}

// ensure writes the file at once and whole. A file that is not boxrun's is an error and stays.
func (f *File) ensure(*Kernel) error {
	if _, err := f.read(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if f.Text == "" {
		return readOnly(ignoreAbsent(os.Remove(f.Path)))
	}
	return f.write(f.Text)
}

func (f *File) write(text string) error {
	return readOnly(writeWhole(f.Path, f.temp(), text))
}

// writeWhole writes a file by way of a temporary file, so nobody reads half of the text. The file is readable for
// everyone, whatever the umask. Where writing fails, the file at path is as before.
func writeWhole(path, temp, text string) error {
	err := os.WriteFile(temp, []byte(text), 0o644)
	if err == nil {
		err = os.Chmod(temp, 0o644)
	}
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		err = errors.Join(err, ignore(os.Remove(temp), fs.ErrNotExist, unix.EROFS))
	}
	return err
}

// temp is the path of the temporary file. The programs that read the directory go by the ends of names, so they pass
// the temporary file over.
func (f *File) temp() string {
	return filepath.Join(filepath.Dir(f.Path), "."+filepath.Base(f.Path)+".new")
}

// undo removes the file, or brings back the text found by record. A file that is not boxrun's stays.
func (f *File) undo(*Kernel) error {
	err := ignore(os.Remove(f.temp()), fs.ErrNotExist, unix.EROFS)
	text, readErr := f.read()
	switch {
	case f.Before != nil && (readErr != nil || text != *f.Before):
		return errors.Join(err, f.write(*f.Before))
	case f.Before != nil || readErr != nil:
		return err
	}
	return errors.Join(err, readOnly(os.Remove(f.Path)))
}

// readOnly wraps the error of a read-only file system in ErrReadOnly, and returns any other error as it is.
func readOnly(err error) error {
	if errors.Is(err, unix.EROFS) {
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	}
	return err
}
