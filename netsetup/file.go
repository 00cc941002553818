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

// setupMark is in every file that [Setup] puts below /etc. A file with it is boxrun's, whoever may have edited it since;
// a file of the same name without it is somebody else's.
const setupMark = "Written by \"boxrun host setup\""

// ErrForeign is in the chain of the error where something stands in a file's place that is not boxrun's.
var ErrForeign = errors.New("something is there that boxrun did not write")

// ErrReadOnly is in the chain of the error where a file cannot be put in place as the file system is read-only.
var ErrReadOnly = errors.New("the file system is read-only")

// File is a file of boxrun's own among the host's configuration: one that holds boxrun's mark.
type File struct {
	Path   string  `json:"path"`
	Text   string  `json:"text"`             // holds the mark; "" where the file is to be gone
	Before *string `json:"before,omitempty"` // an older text of boxrun's, which undo brings back
}

// String names the file by its path.
func (f *File) String() string { return f.Path }

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

// read gives the text of the file. Where it is not boxrun's, that is the error.
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

// ensure writes the file at once and whole, and leaves one alone that is not boxrun's.
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

// writeWhole writes a file by way of a temporary file, so that nobody reads half of the text. The file is readable for
// everyone, whatever the umask. Where writing fails, the file at path is as it was.
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

// temp is where the file is written; the programs that read its directory do so by the end of the names, so they do not
// take it for one of theirs.
func (f *File) temp() string {
	return filepath.Join(filepath.Dir(f.Path), "."+filepath.Base(f.Path)+".new")
}

// undo removes the file, or brings back the one that record found. One that is not boxrun's stays.
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

// readOnly says in words that a file system is read-only.
func readOnly(err error) error {
	if errors.Is(err, unix.EROFS) {
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	}
	return err
}
