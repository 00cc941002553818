package files

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// File is a file of a Dir, or a symbolic link.
type File struct {
	Path    string // relative to the directory of the Dir
	Content string
	Link    string // target of a link; Content is "" then
	Mode    os.FileMode
}

// WriteAll makes files below dir, and their directories.
func WriteAll(dir string, list []File) error {
	for _, f := range list {
		path := filepath.Join(dir, f.Path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := f.Write(path); err != nil {
			return err
		}
	}
	return nil
}

// Write makes the file or link at path. A link that is there is left as it is, and a file with the same content is
// not written.
func (f File) Write(path string) error {
	if f.Link != "" {
		err := os.Symlink(f.Link, path)
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		return err
	}
	old, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return ReplaceFile(path, []byte(f.Content), f.Mode)
	}
	if err != nil || string(old) == f.Content {
		return err
	}
	return overwrite(path, []byte(f.Content))
}

// overwrite replaces the content of an existing file and keeps the inode of the file.
func overwrite(path string, content []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteAt(content, 0)
	if err == nil {
		err = file.Truncate(int64(len(content)))
	}
	return errors.Join(err, file.Close())
}

// RemoveOthers removes all files below dir that are not in files. Directories stay.
func RemoveOthers(dir string, files []File) error {
	wanted := map[string]bool{}
	for _, f := range files {
		wanted[filepath.Join(dir, f.Path)] = true
	}
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || wanted[path] {
			return err
		}
		return os.Remove(path)
	})
}

// Command returns the bash command that writes the file below dir: a here-document, or ln for a link. A file of mode
// 0600 has this mode before the content is written.
func (f File) Command(dir string) string {
	path := Quote(filepath.Join(dir, f.Path))
	if f.Link != "" {
		return fmt.Sprintf("ln -sfn %s %s", f.Link, path)
	}
	content := f.Content
	if content != "" && !strings.HasSuffix(content, "\n") {
		content += "\n"
	}
	end := "END"
	for strings.Contains("\n"+content, "\n"+end+"\n") {
		end += "_"
	}
	write := fmt.Sprintf("cat > %s <<'%s'\n%s%s", path, end, content, end)
	if f.Mode == 0o600 {
		return fmt.Sprintf("install -m 600 /dev/null %s\n%s", path, write)
	}
	return write
}

// Exists reports whether path leads to something, after following links.
func Exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// RemoveIfThere removes a file. A missing file is no error.
func RemoveIfThere(file string) error { return IgnoreNotExist(os.Remove(file)) }

// IgnoreNotExist returns nil for an error of a missing file, and otherwise err.
func IgnoreNotExist(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// IgnoreFull drops the error of a full file system, for writes boxrun can do without: taking down a box must work on a
// full disk too.
func IgnoreFull(err error) error {
	if errors.Is(err, unix.ENOSPC) {
		return nil
	}
	return err
}

// Resolved returns a path with links resolved in its existing part. The missing rest stays as it is. If the links
// cannot be resolved, resolved returns path itself.
func Resolved(path string) string {
	there := Existing(path)
	rest, err := filepath.Rel(there, path)
	if err != nil {
		return path
	}
	if there, err = filepath.EvalSymlinks(there); err != nil {
		return path
	}
	return filepath.Join(there, rest)
}

// Existing returns path, or the nearest existing directory above path.
func Existing(path string) string {
	for path != "/" {
		if _, err := os.Lstat(path); err == nil {
			return path
		}
		path = filepath.Dir(path)
	}
	return path
}

// ReplaceFile makes content the file path, by way of a second file and rename. The second file always has the same
// name: a killed boxrun leaves at most a single file, and the next write takes the file over. Two processes must not
// write path at once.
func ReplaceFile(path string, content []byte, mode os.FileMode) error {
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	err := os.WriteFile(tmp, content, mode)
	if err == nil {
		err = os.Chmod(tmp, mode) // whatever the umask, or the mode of a file left behind
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err == nil {
		return nil
	}
	if undo := os.Remove(tmp); !errors.Is(undo, fs.ErrNotExist) {
		err = errors.Join(err, undo)
	}
	return err
}

// ReplaceIfChanged is ReplaceFile, but leaves a file with the same content alone.
func ReplaceIfChanged(path string, content []byte, mode os.FileMode) error {
	old, err := os.ReadFile(path)
	if err == nil && bytes.Equal(old, content) {
		return nil
	}
	return ReplaceFile(path, content, mode)
}
