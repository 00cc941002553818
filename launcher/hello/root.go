package hello

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"boxrun/launcher/files"
)

// Host is what the sandbox of builtin:hello depends on: where this host has its programs. Programs are in /usr, and
// some are only links to /etc/alternatives. Some libraries are found by the cache only.
type Host struct {
	libraries []files.File // links and directories beside /usr, as the host has them
	bound     []string     // existing paths to bind into the sandbox
}

// Look looks at the host. /sbin is left out on purpose: the sandbox has its init there.
func Look() (Host, error) {
	var h Host
	for _, path := range []string{"/usr", "/etc/alternatives", "/etc/ld.so.cache"} {
		if files.Exists(path) {
			h.bound = append(h.bound, path)
		}
	}
	for _, path := range []string{"/bin", "/lib", "/lib32", "/lib64", "/libx32"} {
		info, err := os.Lstat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err == nil && info.IsDir(): // a host with this directory apart from /usr
			h.bound = append(h.bound, path)
			h.libraries = append(h.libraries, files.Dir(path))
			continue
		case err != nil:
			return Host{}, fmt.Errorf("preparing the root of hello: %w", err)
		}
		target, err := os.Readlink(path)
		if err != nil {
			return Host{}, fmt.Errorf("preparing the root of hello: %w", err)
		}
		h.libraries = append(h.libraries, files.File{Path: path, Link: target})
	}
	return h, nil
}

// Binds returns the binds (Apptainer's SRC:DST:ro) for the sandbox: boxrun's own executable exe as the init, and the
// host's programs. exe must be static to run in the sandbox on every host.
func (h Host) Binds(exe string) []string {
	binds := []string{exe + ":" + Path + ":ro"}
	for _, path := range h.bound {
		binds = append(binds, path+":"+path+":ro")
	}
	return binds
}

// Root returns the sandbox in dir. Writing into an existing sandbox disturbs no box running from the sandbox. Every
// mount point is there from the start, because the root may be read-only.
func (h Host) Root(dir string) files.Set {
	var list []files.File
	for _, d := range []string{
		"dev", "etc/alternatives", "home", "mnt", "proc", "root", "run", "sbin", "srv", "sys", "tmp", "usr", "var/tmp",
	} {
		list = append(list, files.Dir(d))
	}
	list = append(list, h.libraries...)
	for _, f := range helloFiles() {
		list = append(list, files.File{Path: f.path, Content: f.content, Mode: 0o644})
	}
	return files.Set{Doing: "preparing the root of hello", Files: files.In(dir, list)}
}

// helloFiles returns the sandbox's files. The empty files are mount points for binds of boxrun or Apptainer.
func helloFiles() []struct{ path, content string } {
	return []struct{ path, content string }{
		{"etc/group", "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"},
		{"etc/hostname", ""},
		{"etc/hosts", ""},
		{"etc/ld.so.cache", ""},
		{"etc/localtime", ""},
		{"etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"},
		{"etc/os-release", "ID=boxrun-hello\nNAME=\"boxrun hello\"\nPRETTY_NAME=\"the built-in box of boxrun\"\n"},
		{"etc/passwd", "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n"},
		{"etc/profile", "if [ -n \"$BASH_VERSION\" ]; then PS1='\\u@\\h:\\w\\$ '; else PS1=\"$(id -un)@$(uname -n)# \"; fi\n"},
		{"etc/resolv.conf", ""},
		{"sbin/init", ""},
	}
}
