package conf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/launcher/storage"
	"boxrun/profiles"
)

// maxSecret limits the size of a secret in bytes, to systemd's limit. The copy is held in memory.
const maxSecret = 1 << 20

// ReadSecrets returns the contents of a profile's secrets by name. Every file must be readable by root alone, and the
// directory of the copies in memory: the error reports every problem.
func ReadSecrets(s *box.Store, p profiles.Profile) (map[string][]byte, error) {
	if len(p.Secrets) == 0 {
		return nil, nil
	}
	contents, err := readSecrets(p)
	return contents, errors.Join(err, refuseDisk(s.Dir))
}

// refuseDisk requires dir to be in memory.
func refuseDisk(dir string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(files.Existing(dir), &fs); err != nil {
		return fmt.Errorf("looking at %s: %w", dir, err)
	}
	// The field is signed on some machines, of 32 bits on others, and the larger magic number does not fit there.
	if magic := uint32(fs.Type); magic != unix.TMPFS_MAGIC && magic != unix.RAMFS_MAGIC {
		return fault.Refused("mount a tmpfs there",
			"[secrets]: %s is on a disk, where copies of them would outlive the box", dir)
	}
	return nil
}

// readSecrets returns the contents of a profile's secrets by name. The error reports every problem.
func readSecrets(p profiles.Profile) (map[string][]byte, error) {
	contents := map[string][]byte{}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(p.Secrets)) {
		content, err := readSecret(p.Secrets[name])
		var problem *fault.Problem
		if errors.As(err, &problem) {
			problem.Text = fmt.Sprintf("%s: secrets.%s: %s", p.File, name, problem.Text)
		}
		if err == nil {
			err = storage.RefuseThrough(p, "secrets."+name, p.Secrets[name])
		}
		errs = append(errs, err)
		contents[name] = content
	}
	return contents, errors.Join(errs...)
}

// readSecret reads a file. A file that others than root can read or change is no secret, and is refused. The check and
// the read use the same open file.
func readSecret(path string) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO would wait for a writer
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Refused("make it, or take the secret out", "no such file: %q", path)
	}
	if err != nil {
		return nil, fault.Refused("name a file that root can read", "%v", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err == nil {
		err = refuseOpen(path, info)
	}
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(io.LimitReader(file, maxSecret+1))
	if err == nil && len(content) > maxSecret {
		return nil, fault.Refused("bind it instead", "%q is over 1 MiB, too large for a secret", path)
	}
	return content, err
}

// refuseOpen refuses anything but a regular file for root alone.
func refuseOpen(path string, info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return fault.Refused("name a file", "%q is not a regular file", path)
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); !ok || owner.Uid != 0 {
		return fault.Refused(fmt.Sprintf("chown root %s", files.Quote(path)), "%q does not belong to root", path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		hint := "chmod 600 " + files.Quote(path)
		if strings.HasPrefix(path, "/etc/") || strings.HasPrefix(path, "/usr/") { // other programs may have to read the file
			hint = "name a copy for root alone: install -m 600 " + files.Quote(path) + " /root/"
		}
		return fault.Refused(hint,
			"%q has mode %04o: not root alone can read or change it", path, mode)
	}
	return nil
}

// Secrets returns the box's copies of the profile's secrets, with the given contents by name.
func Secrets(s *box.Store, p profiles.Profile, contents map[string][]byte) files.Set {
	if len(p.Secrets) == 0 {
		return files.Set{}
	}
	dir := s.SecretsDir(p.Name)
	list := []files.File{{Path: dir, Mode: fs.ModeDir | 0o700}}
	for _, name := range slices.Sorted(maps.Keys(p.Secrets)) {
		path := filepath.Join(dir, name)
		list = append(list, files.File{Path: path, Content: string(contents[name]), Mode: 0o400,
			Typed: "install -m 400 " + files.QuoteAll([]string{p.Secrets[name], path})})
	}
	return files.Set{Doing: "copying secrets", Files: list, Dir: dir}
}

// SecretBinds returns the bind of the copies into the box.
func SecretBinds(s *box.Store, p profiles.Profile) []string {
	if len(p.Secrets) == 0 {
		return nil
	}
	return []string{s.SecretsDir(p.Name) + ":" + profiles.SecretsDir + ":ro"}
}

// ChangedSecrets returns the names of p's secrets with other contents than the running box's copies, or unreadable now.
// Secrets added to p or removed since the start show in the hash of p instead. ChangedSecrets looks as root only, and
// returns nil for others. When ctx ends, the rest is not looked at.
func ChangedSecrets(ctx context.Context, s *box.Store, p profiles.Profile) []string {
	if !s.Caller.Root {
		return nil
	}
	var changed []string
	for _, name := range slices.Sorted(maps.Keys(p.Secrets)) {
		given, err := os.ReadFile(filepath.Join(s.SecretsDir(p.Name), name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		now, nowErr := files.Within(ctx, func() ([]byte, error) { return readSecret(p.Secrets[name]) })
		if ctx.Err() != nil {
			return changed
		}
		if err != nil || nowErr != nil || !bytes.Equal(given, now) {
			changed = append(changed, name)
		}
	}
	return changed
}
