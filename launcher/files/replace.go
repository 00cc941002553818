package files

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ReplaceFile makes content the file path, by way of a second file and rename. The second file always has the same
// name: a killed boxrun leaves at most a single file, and the next write takes the file over. Of several writers of path
// at once, in this process or another, each waits for the one before, and the last has the last word.
func ReplaceFile(path string, content []byte, mode os.FileMode) error {
	tmp := Unfinished(path)
	file, err := openAlone(tmp)
	if err != nil {
		return err
	}
	defer file.Close() // which lets the next writer go on
	err = fill(file, content, mode)
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return errors.Join(err, RemoveIfThere(tmp))
	}
	return nil
}

// Unfinished is the name of the second file by which ReplaceFile writes path.
func Unfinished(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
}

// openAlone opens the file path for writing, and waits until nobody else has it open by openAlone. A missing file is made.
func openAlone(path string) (*os.File, error) {
	for {
		file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, err
		}
		err = Lock(file)
		if err == nil && InPlace(file) {
			return file, nil
		}
		if err = errors.Join(err, file.Close()); err != nil {
			return nil, err
		}
	}
}

// Lock waits for the lock of an open file.
func Lock(file *os.File) error {
	for {
		if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("flock", err)
		}
	}
}

// InPlace reports whether the path by which a file was opened still leads to that file. Who had the lock before may have
// renamed or removed the file.
func InPlace(file *os.File) bool {
	ours, err := file.Stat()
	if err != nil {
		return false
	}
	now, err := os.Lstat(file.Name())
	return err == nil && os.SameFile(ours, now)
}

// fill makes content the whole content of a file, and gives the file its mode, whatever the umask, or the mode of a file
// left behind.
func fill(file *os.File, content []byte, mode os.FileMode) error {
	if err := file.Truncate(0); err != nil {
		return err
	}
	if _, err := file.Write(content); err != nil {
		return err
	}
	return file.Chmod(mode)
}
