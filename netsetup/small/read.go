package small

import (
	"bytes"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Read returns the content of a regular file, such as a record, or a file of /proc or of a cgroup. Read asks the kernel a
// third of what os.ReadFile asks: os.ReadFile first tries whether there is something to wait for. Whoever looks at fifty
// boxes reads six hundred files. Errors are as of os.ReadFile, and large files are read by os.ReadFile.
func Read(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EINTR) {
		return os.ReadFile(path)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer func() { _ = unix.Close(fd) }() // nothing was written
	var text [16 << 10]byte
	for have := 0; have < len(text); {
		n, err := unix.Read(fd, text[have:])
		switch {
		case err != nil && !errors.Is(err, unix.EINTR):
			return nil, &os.PathError{Op: "read", Path: path, Err: err}
		case err == nil && n == 0:
			return bytes.Clone(text[:have]), nil
		}
		have += max(n, 0)
	}
	return os.ReadFile(path)
}
