package files

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"boxrun/netsetup/small"

	"golang.org/x/sys/unix"
)

// A File is a file, link or directory as wanted on the host. Write makes the file, Command is what a person types to
// make the same.
type File struct {
	Path    string
	Content string
	Link    string      // target of a link; Content is "" then
	Mode    fs.FileMode // with fs.ModeDir: a directory; without meaning for a link
	Typed   string      // command with the same effect, for a content not to be shown; "": a here-document
	Whole   bool        // replaced by rename, for readers at any time; false: the inode stays, for a bind into a box
}

// Dir returns a directory readable by everyone.
func Dir(path string) File { return File{Path: path, Mode: fs.ModeDir | 0o755} }

// In returns the files of a list with relative paths, as files in dir.
func In(dir string, list []File) []File {
	list = slices.Clone(list)
	for i := range list {
		list[i].Path = filepath.Join(dir, list[i].Path)
	}
	return list
}

// A Set is files of one purpose, in the order of writing.
type Set struct {
	Doing string // what writing the files is, for errors, as in "copying secrets"
	Files []File
	Dir   string // directory for no other files: Write removes the others; "": there is none
}

// Write makes the files of the set. Writing twice does no harm.
func (s Set) Write() error {
	err := s.write()
	if err != nil && s.Doing != "" {
		err = fmt.Errorf("%s: %w", s.Doing, err)
	}
	return err
}

func (s Set) write() error {
	for _, f := range s.Files {
		if err := f.Write(); err != nil {
			return err
		}
	}
	if s.Dir == "" {
		return nil
	}
	return s.removeOthers()
}

// removeOthers removes all files in the directory of the set that are not in the set. Directories stay.
func (s Set) removeOthers() error {
	return filepath.WalkDir(s.Dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || slices.ContainsFunc(s.Files, func(f File) bool { return f.Path == path }) {
			return err
		}
		return os.Remove(path)
	})
}

// Commands returns the bash commands that write the files of the set. A single command makes directories next to each
// other.
func (s Set) Commands() []string {
	var lines []string
	for i, f := range s.Files {
		if i > 0 && f.isPlainDir() && s.Files[i-1].isPlainDir() {
			lines[len(lines)-1] += " " + Quote(f.Path)
			continue
		}
		lines = append(lines, f.Command())
	}
	return lines
}

// IsWritten reports whether the host has the file with this content and mode. A missing file is no error.
func (f File) IsWritten() (bool, error) {
	content, mode, err := f.there()
	return content && mode, err
}

// there reports whether the host has a file with this content, and whether the mode is as wanted. Without a wanted mode
// any will do.
func (f File) there() (content, mode bool, err error) {
	have, err := small.Read(f.Path)
	if err != nil {
		return false, false, IgnoreNotExist(err)
	}
	info, err := os.Stat(f.Path)
	if err != nil {
		return false, false, err
	}
	return string(have) == f.Content, f.Mode == 0 || info.Mode().Perm() == f.Mode.Perm(), nil
}

// OtherMode returns a line about the mode of a file that the host has with this content, if the mode is another one.
func (f File) OtherMode() string {
	if content, mode, err := f.there(); err != nil || !content || mode {
		return ""
	}
	return fmt.Sprintf("the mode of %s is not %04o", f.Path, f.Mode.Perm())
}

// Write makes the file, and the directories above. An existing link, directory, or file with the same content and mode
// is left alone. Another content goes in by a single write, so that hardly anyone sees half of the content.
func (f File) Write() error {
	if err := os.MkdirAll(filepath.Dir(f.Path), 0o755); err != nil {
		return err
	}
	switch {
	case f.Mode.IsDir():
		return os.MkdirAll(f.Path, f.Mode.Perm())
	case f.Link != "":
		return ignore(fs.ErrExist, os.Symlink(f.Link, f.Path))
	}
	written, err := f.IsWritten()
	switch {
	case err != nil || written:
		return err
	case f.Whole || !Exists(f.Path):
		return ReplaceFile(f.Path, []byte(f.Content), f.Mode)
	}
	if err := overwrite(f.Path, []byte(f.Content)); err != nil || f.Mode == 0 {
		return err
	}
	return os.Chmod(f.Path, f.Mode.Perm())
}

// overwrite replaces the content of an existing file, and keeps the inode of the file.
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

func (f File) isPlainDir() bool { return f.Mode == fs.ModeDir|0o755 }

// Command returns the bash command that writes the file. A file of mode 0600 has this mode before the content is
// written.
func (f File) Command() string {
	path := Quote(f.Path)
	switch {
	case f.Typed != "":
		return f.Typed
	case f.Link != "":
		return fmt.Sprintf("ln -sfn %s %s", Quote(f.Link), path)
	case f.isPlainDir():
		return "mkdir -p " + path
	case f.Mode.IsDir():
		return fmt.Sprintf("install -d -m %o %s", f.Mode.Perm(), path)
	}
	switch write := hereDocument(path, f.Content); f.Mode {
	case 0o600:
		return fmt.Sprintf("install -m 600 /dev/null %s\n%s", path, write)
	case 0o755:
		return fmt.Sprintf("%s\nchmod 755 %s", write, path)
	default:
		return write
	}
}

// hereDocument returns the command that writes content to a path quoted for bash. A missing line end is added to the
// last line.
func hereDocument(path, content string) string {
	if content != "" && !strings.HasSuffix(content, "\n") {
		content += "\n"
	}
	end := "END"
	for strings.Contains("\n"+content, "\n"+end+"\n") {
		end += "_"
	}
	return fmt.Sprintf("cat > %s <<'%s'\n%s%s", path, end, content, end)
}

// WriteExisting replaces the content of an existing file, such as a file of a cgroup. A missing file is not made: the
// error is fs.ErrNotExist.
func WriteExisting(path, content string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(content)
	return errors.Join(err, file.Close())
}

// ReadIfThere returns the content of a file; "" if there is no file.
func ReadIfThere(path string) (string, error) {
	content, err := small.Read(path)
	return string(content), IgnoreNotExist(err)
}

// ReadSmall is ReadIfThere for a file that may be anything: the error tells of what is no regular file, which might keep
// the reader waiting, or larger than most bytes.
func ReadSmall(path string, most int64) (string, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", IgnoreNotExist(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", path)
	}
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(io.LimitReader(file, most+1))
	if err == nil && int64(len(text)) > most {
		err = fmt.Errorf("%s is larger than %d bytes", path, most)
	}
	return string(text), err
}

// InMemory returns a new file without a name (memfd) with the given content. name only shows in /proc.
func InMemory(name string, content []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	file := os.NewFile(uintptr(fd), name)
	if _, err := file.WriteAt(content, 0); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// Sealed is InMemory for a file that nobody can change, whoever gets the descriptor: the file is sealed, and open for
// reading alone, as a program open for writing cannot be executed.
func Sealed(name string, content io.Reader) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3 every such file is executable
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	file := os.NewFile(uintptr(fd), name)
	defer file.Close()
	if _, err := io.Copy(file, content); err != nil {
		return nil, err
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(file.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		return nil, os.NewSyscallError("F_ADD_SEALS", err)
	}
	return os.Open(fmt.Sprintf("/proc/self/fd/%d", file.Fd()))
}

// Exists reports whether path leads to something, after following links.
func Exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// RemoveIfThere removes a file. A missing file is no error.
func RemoveIfThere(file string) error { return IgnoreNotExist(os.Remove(file)) }

// IgnoreNotExist returns nil for an error of a missing file, and otherwise err.
func IgnoreNotExist(err error) error { return ignore(fs.ErrNotExist, err) }

// IgnoreFull drops the error of a full file system, for writes boxrun can do without: taking down a box must work on a
// full disk too.
func IgnoreFull(err error) error { return ignore(unix.ENOSPC, err) }

// ignore returns nil for an error of a kind, and otherwise err.
func ignore(kind, err error) error {
	if errors.Is(err, kind) {
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
