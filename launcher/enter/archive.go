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

// packer writes a file or a directory tree as a tar stream. Each step below the source is taken from an open directory
// and follows no link: whoever can write there could lead a path elsewhere meanwhile.
type packer struct {
	out   *tar.Writer
	notes io.Writer
	root  string           // the source, for messages
	seen  map[inode]string // for files with several names: the name written first
}

// inode identifies a file on the host or in the box.
type inode struct{ dev, ino uint64 }

// pack writes the tree at source as a tar stream to out, and ends the stream. Symbolic links are written as links.
// Sockets and devices are left out, with a line on notes. After an error the stream has no end, so the other side
// notices the error.
func pack(out, notes io.Writer, source string) error {
	flags := unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC
	if contents(source) || strings.HasSuffix(source, "/") { // copy the directory behind a link
		flags = unix.O_PATH | unix.O_CLOEXEC
	}
	source = filepath.Clean(source)
	p := packer{tar.NewWriter(out), notes, source, map[inode]string{}}
	if err := p.add(unix.AT_FDCWD, source, flags, "."); err != nil {
		return err // no Close: the missing end tells the other side
	}
	return p.out.Close()
}

// add writes the file elem of the open directory dir under name, and all below a directory. A file that vanished
// meanwhile is an error, because the copy would then be incomplete.
func (p packer) add(dir int, elem string, flags int, name string) error {
	f, err := openAt(dir, elem, flags)
	if err != nil {
		return p.failed(name, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return p.failed(name, err)
	}
	switch mode := info.Mode(); {
	case mode&(fs.ModeSocket|fs.ModeDevice) != 0:
		return p.leaveOut(name, errors.New("it is a socket or a device"))
	case mode.IsRegular():
		return p.failed(name, p.addRegular(dir, elem, name))
	case mode.IsDir():
		return p.addDir(f, info, name)
	}
	link := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if link, err = readLink(f); err != nil {
			return p.failed(name, err)
		}
	}
	return p.failed(name, p.writeHeader(info, name, link))
}

// leaveOut writes a line on notes why a file is not in the copy. For the source itself the reason is an error.
func (p packer) leaveOut(name string, reason error) error {
	if name == "." {
		return fmt.Errorf("copying %s: %w", p.root, reason)
	}
	fmt.Fprintf(p.notes, "left out %s: %v\n", filepath.Join(p.root, name), reason)
	return nil
}

// failed returns an error for the file with a name in the stream, without the name of the system call, which helps
// nobody. An error that has its file already stays.
func (p packer) failed(name string, err error) error {
	if errno := unix.Errno(0); errors.As(err, &errno) && errno != unix.EPIPE {
		err = fmt.Errorf("copying %s: %w", filepath.Join(p.root, name), errno)
	}
	return err
}

func (p packer) writeHeader(info fs.FileInfo, name, link string) error {
	h, err := headerOf(info, name, link)
	if err != nil {
		return err
	}
	return p.out.WriteHeader(h)
}

// openAt opens a file below an open directory.
func openAt(dir int, elem string, flags int) (*os.File, error) {
	fd, err := unix.Openat(dir, elem, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), elem), nil
}

// readLink returns where an open symbolic link (O_PATH) leads.
func readLink(f *os.File) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(f.Fd()), "", buf)
	return string(buf[:max(n, 0)]), err
}

// addDir writes the directory f (O_PATH) and all below. The entries are read a few at a time: a box may have millions.
func (p packer) addDir(f *os.File, info fs.FileInfo, name string) error {
	if err := p.writeHeader(info, name, ""); err != nil {
		return err
	}
	dir, err := openAt(int(f.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return p.failed(name, err)
	}
	defer dir.Close()
	for {
		elems, err := dir.Readdirnames(1000)
		for _, elem := range elems {
			if err := p.add(int(dir.Fd()), elem, unix.O_PATH|unix.O_NOFOLLOW, filepath.Join(name, elem)); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return p.failed(name, err)
		}
	}
}

// addRegular writes a regular file, or a hard link to the name the file was written under before. A file that grows
// meanwhile is cut off at its size when it was opened. A file that shrinks meanwhile is an error.
func (p packer) addRegular(dir int, elem, name string) error {
	// If a link or a pipe has replaced the file meanwhile, open neither follows the link nor waits for the pipe.
	f, err := openAt(dir, elem, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s was replaced while it was copied", filepath.Join(p.root, name))
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
	if made(info) {
		return p.addMade(f, h, name)
	}
	data := spansOf(f, h.Size)
	data.describe(h)
	if err := p.out.WriteHeader(h); err != nil {
		return err
	}
	for _, s := range data.list {
		if _, err := io.Copy(p.out, io.NewSectionReader(f, s.from, s.length)); err != nil {
			return err
		}
	}
	if err := p.out.Flush(); err != nil && !errors.Is(err, unix.EPIPE) { // bytes are missing
		return fmt.Errorf("%s became shorter while it was copied", filepath.Join(p.root, name))
	}
	return nil
}

// made reports whether a file may be one that the kernel makes as it is read, as below /proc and /sys: its size says
// nothing, and it takes no room.
func made(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Blocks == 0 && info.Size() <= int64(os.Getpagesize())
}

// maxMade limits what is read of a file that the kernel makes.
const maxMade = 16 << 20

// addMade writes a file that the kernel makes as it is read. A file that cannot be read is left out.
func (p packer) addMade(f *os.File, h *tar.Header, name string) error {
	text, err := readMade(int(f.Fd()))
	if err != nil {
		return p.leaveOut(name, err)
	}
	h.Size = int64(len(text))
	if err := p.out.WriteHeader(h); err != nil {
		return err
	}
	_, err = p.out.Write(text)
	return err
}

// readMade reads a file to its end. The file is asked without waiting, as some files of the kernel have no end.
func readMade(fd int) ([]byte, error) {
	var text []byte
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Read(fd, buf)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, err
		case n == 0:
			return text, nil
		case len(text)+n > maxMade:
			return nil, fmt.Errorf("it has more than %d bytes, and no size", maxMade)
		default:
			text = append(text, buf[:n]...)
		}
	}
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

// nameless keeps archive/tar from the names of owner and group: for names archive/tar reads all of /etc/passwd, which
// root of a box may have made a pipe, or a file without end.
type nameless struct{ fs.FileInfo }

// Uname returns no name.
func (nameless) Uname() (string, error) { return "", nil }

// Gname returns no name.
func (nameless) Gname() (string, error) { return "", nil }

// headerOf returns the header of a file. The header has only the numbers of owner and group, because the names of
// another system mean nothing here.
func headerOf(info fs.FileInfo, name, link string) (*tar.Header, error) {
	h, err := tar.FileInfoHeader(nameless{info}, link)
	if err != nil {
		return nil, err
	}
	h.Name, h.Format = name, tar.FormatPAX
	h.AccessTime, h.ChangeTime = time.Time{}, time.Time{}
	return h, nil
}

// unpacker makes a directory tree from a tar stream. It works below root and cannot leave root, whatever the stream
// says: the sender may be root in a box.
type unpacker struct {
	root *os.Root
	dirs []*tar.Header  // directories that get mode and times at the end, when they are full
	had  map[string]int // the directories in dirs by name; a stream that repeats names takes no more memory
	side side
}

// unpack makes the tree of the stream at the target of s, or inside the target as placeFor decides. A stream without an
// end is an error.
func unpack(in io.Reader, s side) error {
	stream := tarOf(in)
	first, err := stream.Next()
	if errors.Is(err, io.EOF) {
		err = errCut
	}
	if err != nil {
		return err
	}
	if first.Name != "." {
		return fmt.Errorf("copying: the first name is %q", first.Name)
	}
	dir, name, err := placeFor(s.Source, s.Target, first.Typeflag == tar.TypeDir)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	u := unpacker{root: root, side: s, had: map[string]int{}}
	if first.Typeflag != tar.TypeDir {
		first.Name = name
		return u.single(stream, first)
	}
	if name != "." {
		kept, err := u.makeDir(name)
		if err != nil {
			return fmt.Errorf("writing %s: %w", filepath.Join(dir, name), withoutPath(err))
		}
		if kept {
			first.Mode = keepMode
		}
		below, err := root.OpenRoot(name)
		if err != nil {
			return err
		}
		defer below.Close()
		u.root = below
	} else {
		first.Mode = keepMode
	}
	return u.tree(stream, first)
}

// keepMode stands for the mode in the header of a directory that was there before: its mode and owner stay.
const keepMode = -1

// single makes the only file of a stream.
func (u *unpacker) single(stream *tar.Reader, h *tar.Header) error {
	if err := u.add(stream, h); err != nil {
		return err
	}
	switch next, err := stream.Next(); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	default:
		return fmt.Errorf("copying: unexpected %q", next.Name)
	}
}

// tree makes all that is below the directory of the first header, which is the root.
func (u *unpacker) tree(stream *tar.Reader, first *tar.Header) error {
	u.dirs = append(u.dirs, first)
	for {
		h, err := stream.Next()
		if errors.Is(err, io.EOF) {
			return u.finish()
		}
		if err == nil {
			err = u.add(stream, h)
		}
		if err != nil {
			return err
		}
	}
}

// add makes the file of header h below the root. A name leading out of the root is an error.
func (u *unpacker) add(stream *tar.Reader, h *tar.Header) error {
	if !filepath.IsLocal(h.Name) {
		return fmt.Errorf("copying: %q leads out of the copy", h.Name)
	}
	if err := withoutPath(u.make(stream, h)); err != nil {
		return fmt.Errorf("writing %s: %w", filepath.Join(u.root.Name(), h.Name), err)
	}
	return nil
}

// withoutPath returns an error without its path, which is relative.
func withoutPath(err error) error {
	var failed *fs.PathError
	if errors.As(err, &failed) {
		return failed.Err
	}
	return err
}

// make makes the file of header h. A directory is merged with an existing directory. Any other file replaces an
// existing file, but no directory; a regular file in place of a regular file has the owner and mode of the old one.
func (u *unpacker) make(stream *tar.Reader, h *tar.Header) error {
	if h.Typeflag == tar.TypeDir {
		return u.addDir(h)
	}
	u.keepOwner(h)
	if info, err := u.root.Lstat(h.Name); err == nil && info.IsDir() {
		return errors.New("what is there is a directory")
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

// keepOwner gives the header of a regular file the owner and mode of the regular file that is there.
func (u *unpacker) keepOwner(h *tar.Header) {
	info, err := u.root.Lstat(h.Name)
	if err != nil || h.Typeflag != tar.TypeReg || !info.Mode().IsRegular() {
		return
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		h.Uid, h.Gid, h.Mode = int(stat.Uid), int(stat.Gid), int64(stat.Mode&0o7777)
	}
}

// modeOf returns the mode for a file. A copy out of the box has no set-user-ID and set-group-ID bits, unless asked for:
// whoever is root in the box could have programs run as any user of the host.
func (u *unpacker) modeOf(h *tar.Header) fs.FileMode {
	mode := h.FileInfo().Mode()
	if u.side.Plain && !mode.IsDir() {
		mode &^= fs.ModeSetuid | fs.ModeSetgid
	}
	return mode
}

// addDir makes a directory, or takes the directory that is there.
func (u *unpacker) addDir(h *tar.Header) error {
	at, again := u.had[h.Name]
	kept, err := u.makeDir(h.Name)
	switch {
	case err != nil:
		return err
	case again:
		h.Mode, u.dirs[at] = u.dirs[at].Mode, h
		return nil
	case kept:
		h.Mode = keepMode
	}
	u.had[h.Name] = len(u.dirs)
	u.dirs = append(u.dirs, h)
	return nil
}

// makeDir makes a directory, with mode 0700 until finish. An existing directory is kept. A link to a directory is an
// error.
func (u *unpacker) makeDir(name string) (kept bool, err error) {
	err = u.root.Mkdir(name, 0o700)
	if !errors.Is(err, os.ErrExist) {
		return false, err
	}
	info, err := u.root.Lstat(name)
	if err == nil && !info.IsDir() {
		err = errors.New("what is there is no directory")
	}
	return true, err
}

// addRegular makes a regular file with the content of the stream. The file is new: make has removed a file of the
// same name.
func (u *unpacker) addRegular(stream *tar.Reader, h *tar.Header) error {
	f, err := u.root.OpenFile(h.Name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = fill(f, stream, h)
	if err == nil {
		err = f.Chown(h.Uid, h.Gid)
	}
	if err == nil {
		err = f.Chmod(u.modeOf(h)) // after Chown, which clears the set-user-id bit
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return u.root.Chtimes(h.Name, h.ModTime, h.ModTime)
}

// dress sets owner, mode and time of a file; of a symbolic link, owner and time of the link itself; of a directory that
// was there before, the time.
func (u *unpacker) dress(h *tar.Header) error {
	if h.Mode == keepMode {
		return u.root.Chtimes(h.Name, h.ModTime, h.ModTime)
	}
	if err := u.root.Lchown(h.Name, h.Uid, h.Gid); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeSymlink {
		at := unix.NsecToTimespec(h.ModTime.UnixNano())
		return u.at(h.Name, func(dir int, name string) error {
			return unix.UtimesNanoAt(dir, name, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW)
		})
	}
	if err := u.root.Chmod(h.Name, u.modeOf(h)); err != nil {
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
