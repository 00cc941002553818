package launcher

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// helloBinds gives the binds (Apptainer's SRC:DST:ro) that go with the sandbox of builtin:hello: exe, boxrun's own
// executable, as its init, and the host's programs. Some of these are only links to /etc/alternatives, and some
// libraries are found by the cache only. exe has to be static to run there on every host.
func helloBinds(exe string) ([]string, error) {
	binds := []string{exe + ":" + helloPath + ":ro"}
	for _, path := range []string{"/usr", "/etc/alternatives", "/etc/ld.so.cache"} {
		if exists(path) {
			binds = append(binds, path+":"+path+":ro")
		}
	}
	for _, path := range libraryDirs() {
		info, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("preparing the root of hello: %w", err)
		}
		if info.IsDir() { // a host that keeps it apart from /usr
			binds = append(binds, path+":"+path+":ro")
		}
	}
	return binds, nil
}

// libraryDirs are the directories beside /usr that its programs need; links into /usr on most hosts. /sbin is not
// one of them: it holds init.
func libraryDirs() []string { return []string{"/bin", "/lib", "/lib32", "/lib64", "/libx32"} }

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// makeHello makes the sandbox of builtin:hello in dir, or completes one that is there without disturbing the boxes
// that run from it. Every mount point is there: the root may be read-only.
func makeHello(dir string) error {
	if err := errors.Join(makeHelloDirs(dir), makeHelloFiles(dir)); err != nil {
		return fmt.Errorf("preparing the root of hello: %w", err)
	}
	return nil
}

func makeHelloDirs(dir string) error {
	for _, d := range helloDirs() {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	for _, path := range libraryDirs() {
		if err := likeHost(dir, path); err != nil {
			return err
		}
	}
	return nil
}

func makeHelloFiles(dir string) error {
	for name, text := range helloFiles() {
		if err := writeOnce(filepath.Join(dir, name), []byte(text)); err != nil {
			return err
		}
	}
	return nil
}

func helloDirs() []string {
	return []string{"dev", "etc/alternatives", "home", "mnt", "proc", "root", "run", "sbin", "srv", "sys", "tmp", "usr", "var/tmp"}
}

// likeHost makes path below dir what it is on the host: a link, a directory to bind to, or nothing.
func likeHost(dir, path string) error {
	target, err := os.Readlink(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil: // not a link
		return os.MkdirAll(filepath.Join(dir, path), 0o755)
	}
	err = os.Symlink(target, filepath.Join(dir, path))
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// writeOnce writes a file unless it has that content already, which may be bound into a running box.
func writeOnce(path string, text []byte) error {
	have, err := os.ReadFile(path)
	if err == nil && bytes.Equal(have, text) {
		return nil
	}
	return os.WriteFile(path, text, 0o644)
}

// helloFiles are the sandbox's files. The empty ones are there to be bound over, by boxrun or by Apptainer.
func helloFiles() map[string]string {
	return map[string]string{
		"sbin/init":         "",
		"etc/ld.so.cache":   "",
		"etc/hosts":         "",
		"etc/hostname":      "",
		"etc/resolv.conf":   "",
		"etc/localtime":     "",
		"etc/passwd":        "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n",
		"etc/group":         "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n",
		"etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
		"etc/os-release":    "ID=boxrun-hello\nNAME=\"boxrun hello\"\nPRETTY_NAME=\"the built-in box of boxrun\"\n",
		"etc/profile":       "if [ -n \"$BASH_VERSION\" ]; then PS1='\\u@\\h:\\w\\$ '; else PS1=\"$(id -un)@$(uname -n)# \"; fi\n",
	}
}
