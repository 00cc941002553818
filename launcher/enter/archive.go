package enter

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A tar stream of "boxrun cp" begins with the entry "." for the source itself. The names of all other entries are
// relative to the source.

// packer writes a file or a directory tree as a tar stream.
type packer struct {
	out   *tar.Writer
	notes io.Writer
	seen  map[inode]string // for files with several names: the name written first
}

// inode identifies a file on the host or in the box.
type inode struct{ dev, ino uint64 }

// pack writes the tree at source as a tar stream to out, and ends the stream. Symbolic links are written as links.
// Sockets and devices are left out, with a line on notes. After an error the stream has no end, so the other side
// notices the error.
func pack(out, notes io.Writer, source string) error {
	p := packer{tar.NewWriter(out), notes, map[inode]string{}}
	if contents(source) || strings.HasSuffix(source, "/") { // copy the directory behind a link
		var err error
		if source, err = filepath.EvalSymlinks(source); err != nil {
			return err
		}
	}
	source = filepath.Clean(source)
	err := filepath.WalkDir(source, func(path string, _ fs.DirEntry, err error) error {
		var failed *fs.PathError
		if errors.As(err, &failed) {
			return fmt.Errorf("copying %s: %w", path, failed.Err) // without the name of the system call, which helps nobody
		}
		if err != nil {
			return err
		}
		name, err := filepath.Rel(source, path)
		if err != nil {
			return err
		}
		return p.add(path, name)
	})
	if err != nil {
		return err // no Close: the missing end tells the other side
	}
	return p.out.Close()
}

// add writes the file at path under name. A file that vanished meanwhile is an error, because the copy would then be
// incomplete.
func (p packer) add(path, name string) error {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return err
	case info.Mode()&(fs.ModeSocket|fs.ModeDevice) != 0:
		fmt.Fprintf(p.notes, "left out %s: it is a socket or a device\n", path)
		return nil
	case info.Mode().IsRegular():
		return p.addRegular(path, name)
	}
	link := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if link, err = os.Readlink(path); err != nil {
			return err
		}
	}
	h, err := headerOf(info, name, link)
	if err != nil {
		return err
	}
	return p.out.WriteHeader(h)
}

// addRegular writes a regular file, or a hard link to the name the file was written under before. A file that grows
// meanwhile is cut off at its size when it was opened. A file that shrinks meanwhile is an error.
func (p packer) addRegular(path, name string) error {
	// If a link or a pipe has replaced the file meanwhile, open neither follows the link nor waits for the pipe.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s was replaced while it was copied", path)
	}
	if err != nil {
		return err
	}
	h, err := headerOf(info, name, "")
	if err != nil {
		return err
	}
	if first, again := p.linked(info, name); again {
		h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
		return p.out.WriteHeader(h)
	}
	if err := p.out.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.CopyN(p.out, f, h.Size)
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%s became shorter while it was copied", path)
	}
	return err
}

// linked records the first name of a file with several names. For a file already written, again is true and first is
// the name in the stream.
func (p packer) linked(info fs.FileInfo, name string) (first string, again bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || stat.Nlink < 2 {
		return "", false
	}
	id := inode{uint64(stat.Dev), stat.Ino}
	first, again = p.seen[id]
	if !again {
		p.seen[id] = name
	}
	return first, again
}

// headerOf returns the header of a file. The header has only the numbers of owner and group, because the names of
// another system mean nothing here.
func headerOf(info fs.FileInfo, name, link string) (*tar.Header, error) {
	h, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return nil, err
	}
	h.Name, h.Uname, h.Gname, h.Format = name, "", "", tar.FormatPAX
	h.AccessTime, h.ChangeTime = time.Time{}, time.Time{}
	return h, nil
}

// unpacker makes a directory tree from a tar stream. It works below root and cannot leave root, whatever the stream
// says: the sender may be root in a box.
type unpacker struct {
	root *os.Root
	dirs []*tar.Header // directories that get mode and times at the end, when they are full
}

// unpack makes the tree of the stream at target, or inside target as placeFor decides. source is what the sender was
// told to send. A stream without an end is an error.
func unpack(in io.Reader, source, target string) error {
	stream := tar.NewReader(in)
	first, err := stream.Next()
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF // the other side reports the reason
	}
	if err != nil {
		return err
	}
	if first.Name != "." {
		return fmt.Errorf("copying: the first name is %q", first.Name)
	}
	place, err := placeFor(source, target, first.Typeflag == tar.TypeDir)
	if err != nil {
		return err
	}
	return unpackAt(stream, first, place)
}

// unpackAt makes the file of header first at place, and all other files of the stream below. An existing directory is
// used. After a file other than a directory, the stream must end.
func unpackAt(stream *tar.Reader, first *tar.Header, place string) error {
	dir, isDir := filepath.Dir(place), first.Typeflag == tar.TypeDir
	if isDir {
		dir = place
		if err := os.Mkdir(place, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	u := unpacker{root: root}
	if isDir {
		u.dirs = append(u.dirs, first)
	} else {
		first.Name = filepath.Base(place)
		err = u.add(stream, first)
	}
	for err == nil {
		var h *tar.Header
		h, err = stream.Next()
		switch {
		case errors.Is(err, io.EOF):
			return u.finish()
		case err == nil && !isDir:
			err = fmt.Errorf("copying: unexpected %q", h.Name)
		case err == nil:
			err = u.add(stream, h)
		}
	}
	return err
}

// add makes the file of header h below the root. A name leading out of the root is an error.
func (u *unpacker) add(stream *tar.Reader, h *tar.Header) error {
	if !filepath.IsLocal(h.Name) {
		return fmt.Errorf("copying: %q leads out of the copy", h.Name)
	}
	err := u.make(stream, h)
	var failed *fs.PathError // the path in this error is relative
	if errors.As(err, &failed) {
		err = failed.Err
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", filepath.Join(u.root.Name(), h.Name), err)
	}
	return nil
}

// make makes the file of header h. A directory is merged with an existing directory. Any other file replaces an
// existing file, or an empty directory.
func (u *unpacker) make(stream *tar.Reader, h *tar.Header) error {
	if h.Typeflag == tar.TypeDir {
		u.dirs = append(u.dirs, h)
		return u.makeDir(h.Name)
	}
	if err := u.root.Remove(h.Name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var err error
	switch h.Typeflag {
	case tar.TypeReg:
		return u.addRegular(stream, h)
	case tar.TypeLink:
		return u.root.Link(h.Linkname, h.Name)
	case tar.TypeSymlink:
		err = u.root.Symlink(h.Linkname, h.Name)
	case tar.TypeFifo:
		err = u.at(h.Name, func(dir int, name string) error { return unix.Mkfifoat(dir, name, 0o600) })
	default:
		err = fmt.Errorf("it is of type %q", h.Typeflag)
	}
	if err != nil {
		return err
	}
	return u.dress(h)
}

// makeDir makes a directory, with mode 0700 until finish. An existing directory is kept. A link to a directory is an
// error.
func (u *unpacker) makeDir(name string) error {
	err := u.root.Mkdir(name, 0o700)
	if !errors.Is(err, os.ErrExist) {
		return err
	}
	info, err := u.root.Lstat(name)
	if err == nil && !info.IsDir() {
		err = errors.New("what is there is no directory")
	}
	return err
}

// addRegular makes a regular file with the content of the stream. The file is new: make has removed a file of the
// same name.
func (u *unpacker) addRegular(stream *tar.Reader, h *tar.Header) error {
	f, err := u.root.OpenFile(h.Name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, stream)
	if err == nil {
		err = f.Chown(h.Uid, h.Gid)
	}
	if err == nil {
		err = f.Chmod(h.FileInfo().Mode()) // after Chown, which clears the set-user-id bit
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return u.root.Chtimes(h.Name, h.ModTime, h.ModTime)
}

// dress sets owner, mode and time of a file; of a symbolic link, owner and time of the link itself.
func (u *unpacker) dress(h *tar.Header) error {
	if err := u.root.Lchown(h.Name, h.Uid, h.Gid); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeSymlink {
		at := unix.NsecToTimespec(h.ModTime.UnixNano())
		return u.at(h.Name, func(dir int, name string) error {
			return unix.UtimesNanoAt(dir, name, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW)
		})
	}
	if err := u.root.Chmod(h.Name, h.FileInfo().Mode()); err != nil {
		return err
	}
	return u.root.Chtimes(h.Name, h.ModTime, h.ModTime)
}

// at calls do with a descriptor of name's directory and the last element of name, for system calls missing from
// os.Root.
func (u *unpacker) at(name string, do func(dir int, name string) error) error {
	dir, err := u.root.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	return do(int(dir.Fd()), filepath.Base(name))
}

// finish sets owners, modes and times of the directories, the innermost first, because a new file in a directory
// changes the directory's time.
func (u *unpacker) finish() error {
	for _, h := range slices.Backward(u.dirs) {
		if err := u.dress(h); err != nil {
			return err
		}
	}
	return nil
}
