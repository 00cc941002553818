package small

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Read returns what os.ReadFile does, of files of each size around that of its memory, and of files without a size.
func TestRead(t *testing.T) {
	paths := []string{"/proc/self/limits", "/proc/filesystems", "/proc/none", t.TempDir()}
	for _, size := range []int{0, 1, 8191, 16383, 16384, 16385, 70000} {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, []byte(strings.Repeat("0123456789", size/10+1)[:size]), 0o600); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	for _, path := range paths {
		got, err := Read(path)
		want, wantErr := os.ReadFile(path)
		if string(got) != string(want) || cause(err) != cause(wantErr) {
			t.Errorf("%s: got %d bytes and %v, want %d bytes and %v", path, len(got), err, len(want), wantErr)
		}
	}
}

// cause returns the number of the kernel's error.
func cause(err error) syscall.Errno {
	var number syscall.Errno
	errors.As(err, &number)
	return number
}
