package small

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
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

// Find finds what filepath.Glob does.
func TestFind(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"all", "eth0.5", "lo", "bare"} {
		if err := os.MkdirAll(filepath.Join(root, dir, "deep"), 0o755); err != nil {
			t.Fatal(err)
		}
		if dir == "bare" {
			continue
		}
		if err := os.WriteFile(filepath.Join(root, dir, "value"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, pattern := range []string{root + "/*/value", root + "/*/deep/none", root + "/lo/value", root + "/lo/none", root + "/none/*/value", "/proc/sys/net/ipv4/conf/*/forwarding"} {
		got, err := Find(pattern)
		want, globErr := filepath.Glob(pattern)
		if !slices.Equal(got, want) || err != nil || globErr != nil {
			t.Errorf("%s: got %v, %v, want %v, %v", pattern, got, err, want, globErr)
		}
	}
}

// cause returns the number of the kernel's error.
func cause(err error) syscall.Errno {
	var number syscall.Errno
	errors.As(err, &number)
	return number
}
