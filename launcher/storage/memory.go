package storage

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"boxrun/launcher/box"
	"boxrun/launcher/confine"
	"boxrun/launcher/files"
	"boxrun/profiles"
)

// Memory is a file system in memory, mounted on a directory of the host for the journal of a box: "" for none. The host
// has it, so that the journal can be read when the init of the box is dead. No program in it can be run, and root in
// the box can fill no more than the box could fill of its own /run.
type Memory string

// memoryOptions are the options of mount(8). The size is that of a box's own /run.
const memoryOptions = "mode=755,size=20%,nr_inodes=800k"

// JournalMemory returns the file system for the journal of a box of the profile. A box has none where the host keeps the
// journal, and where nothing puts it on the box's /run/log/journal: that is a step of the first process of a confined box.
func JournalMemory(s *box.Store, p profiles.Profile) Memory {
	if !p.Security.Confined() || box.IsHello(p.Image) || box.KeepsJournal(p) {
		return ""
	}
	return Memory(s.JournalMemory(p.Name))
}

// Binds returns the bind of the file system, in Apptainer's SRC:DST.
func (m Memory) Binds() []string {
	if m == "" {
		return nil
	}
	return []string{string(m) + ":" + confine.JournalDir}
}

// Make mounts the file system. A mounted file system stays, with the journal of the start before.
func (m Memory) Make() error {
	if m == "" {
		return nil
	}
	dir := string(m)
	err := os.MkdirAll(filepath.Dir(dir), 0o700)
	if err == nil {
		err = files.Mkdirs([]string{dir})
	}
	if err != nil || m.mounted() {
		return err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, memoryOptions); err != nil {
		return fmt.Errorf("mounting memory for the journal on %s: %w", dir, err)
	}
	return nil
}

// mounted reports whether something is mounted on the directory.
func (m Memory) mounted() bool {
	var here, above unix.Stat_t
	return unix.Lstat(string(m), &here) == nil && unix.Lstat(filepath.Dir(string(m)), &above) == nil && here.Dev != above.Dev
}

// Commands returns the bash commands for Make; none where the file system is mounted.
func (m Memory) Commands() []string {
	if m == "" || m.mounted() {
		return nil
	}
	dir := files.Quote(string(m))
	return []string{
		fmt.Sprintf("mkdir -p -m 700 %s && mkdir -p %s", files.Quote(filepath.Dir(string(m))), dir),
		fmt.Sprintf("mount -t tmpfs -o nosuid,nodev,noexec,%s tmpfs %s", memoryOptions, dir),
	}
}

// UnmadeMemory returns the removal of the file system with the journal of a box, which nobody can read afterwards; none
// for a box to start anew.
func UnmadeMemory(s *box.Store, b *box.Box) []files.Removal {
	if b.Anew {
		return nil
	}
	dir := s.JournalMemory(b.Name)
	return []files.Removal{{Paths: []string{dir}, Mounted: true}, {Paths: []string{filepath.Dir(dir)}, IfEmpty: true}}
}
