package enter

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"boxrun/launcher/list"
	"boxrun/launcher/process"
)

// ReadInBox reads at most 64 KiB of a file in a box, as a process in the box would see the file. Links are followed
// inside the box and cannot lead out of the box.
func ReadInBox(pid int, path string) (string, error) {
	f, err := openInBox(pid, path, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 1<<16))
	return string(text), err
}

// ListInBox returns the names of at most 1000 entries of a directory in a box, in no order; names of directories end in
// a slash.
func ListInBox(pid int, dir string) ([]string, error) {
	f, err := openInBox(pid, dir, unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := f.ReadDir(1000)
	return list.Map(entries, func(e os.DirEntry) string {
		if e.IsDir() {
			return e.Name() + "/"
		}
		return e.Name()
	}), err
}

// openInBox opens a file in a box for reading.
func openInBox(pid int, path string, flags uint64) (*os.File, error) {
	root, err := unix.Open(process.ProcFile(pid, "root"), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(root)
	if path == "" {
		path = "."
	}
	fd, err := unix.Openat2(root, path, &unix.OpenHow{
		Flags: flags | unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, fmt.Errorf("opening /%s in the box: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}
