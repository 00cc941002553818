package hello

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"boxrun/launcher/files"
)

// Commands returns the commands that make the same sandbox as Make.
func Commands(dir string) []string {
	lines := []string{"mkdir -p " + files.QuoteAll(files.Below(dir, helloDirs()))}
	for _, path := range libraryDirs() {
		if target, err := os.Readlink(path); err == nil {
			lines = append(lines, fmt.Sprintf("ln -sfn %s %s", files.Quote(target), files.Quote(dir+path)))
		} else if files.Exists(path) {
			lines = append(lines, "mkdir -p "+files.Quote(dir+path))
		}
	}
	contents := helloFiles()
	for _, name := range slices.Sorted(maps.Keys(contents)) {
		lines = append(lines, files.File{Path: name, Content: contents[name]}.Command(dir))
	}
	return lines
}

// Binds returns the binds (Apptainer's SRC:DST:ro) for the sandbox of builtin:hello: boxrun's own executable exe
// as its init, and the host's programs. Some programs are only links to /etc/alternatives, and some libraries are found
// by the cache only, so both are bound too. exe must be static to run in the sandbox on every host.
func Binds(exe string) ([]string, error) {
	binds := []string{exe + ":" + Path + ":ro"}
	for _, path := range []string{"/usr", "/etc/alternatives", "/etc/ld.so.cache"} {
		if files.Exists(path) {
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
		if info.IsDir() { // a host with this directory apart from /usr
			binds = append(binds, path+":"+path+":ro")
		}
	}
	return binds, nil
}

// libraryDirs returns the directories beside /usr that programs in /usr need. On most hosts they are links into /usr.
// /sbin is missing on purpose: the sandbox has its init there.
func libraryDirs() []string { return []string{"/bin", "/lib", "/lib32", "/lib64", "/libx32"} }

// Make makes the sandbox of builtin:hello in dir. An existing sandbox is completed without disturbing the boxes
// running from it. The sandbox has every mount point already, since the root may be read-only.
func Make(dir string) error {
	if err := errors.Join(makeHelloDirs(dir), makeHelloFiles(dir)); err != nil {
		return fmt.Errorf("preparing the root of hello: %w", err)
	}
	return nil
}

// makeHelloDirs makes the directories of the sandbox, and libraryDirs as they are on the host.
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

// helloDirs returns the directories of the sandbox; most are mount points.
func helloDirs() []string {
	return []string{"dev", "etc/alternatives", "home", "mnt", "proc", "root", "run", "sbin", "srv", "sys", "tmp", "usr", "var/tmp"}
}

// likeHost makes path below dir the same as on the host: a link with the same target, a directory to bind to, or
// nothing.
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

// writeOnce writes a file unless the file has the content already: a running box may have the file bound.
func writeOnce(path string, text []byte) error {
	have, err := os.ReadFile(path)
	if err == nil && bytes.Equal(have, text) {
		return nil
	}
	return os.WriteFile(path, text, 0o644)
}

// helloFiles returns the sandbox's files. The empty files are mount points for binds of boxrun or Apptainer.
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
