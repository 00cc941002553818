package box

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/launcher/list"
)

// An entryFile is a file that Apptainer reads to enter a box, with the copy kept since the start of the box.
type entryFile struct {
	path, copy string
	mode       os.FileMode
}

// entry returns boxrun's apptainer.conf and Apptainer's record of the box.
func (s *Store) entry(b *Box) []entryFile {
	dir := s.BoxDir(b.Name)
	return []entryFile{
		{s.Conf(), filepath.Join(dir, "apptainer.conf"), 0o644},
		{b.Record, filepath.Join(dir, "record.json"), 0o600},
	}
}

// KeepEntry copies what exec, shell and hooks enter the box by, for RepairEntry.
func (s *Store) KeepEntry(b *Box) error {
	return fault.Each(s.entry(b), func(f entryFile) error {
		text, err := os.ReadFile(f.path)
		if err == nil {
			err = files.ReplaceFile(f.copy, text, f.mode)
		}
		return fault.Wrap("keeping a copy of "+f.path, err)
	})
}

// lostEntry returns what is missing or empty by now of the files that KeepEntry copied.
func (s *Store) lostEntry(b *Box) []entryFile {
	var lost []entryFile
	for _, f := range s.entry(b) {
		if sizeOf(f.path) == 0 && sizeOf(f.copy) > 0 {
			lost = append(lost, f)
		}
	}
	return lost
}

// EntryDrift returns a line for each lost file without which nobody can enter the box.
func (s *Store) EntryDrift(b *Box) []string { return list.Map(s.lostEntry(b), entryFile.lost) }

// lost returns the line for a lost file.
func (f entryFile) lost() string {
	return fmt.Sprintf("%s is missing or empty: exec and shell go by it", f.path)
}

// RepairEntry puts lost files back, and returns the lines of EntryDrift. The caller holds the lock of the box.
func (s *Store) RepairEntry(b *Box) ([]string, error) {
	lost := s.lostEntry(b)
	return list.Map(lost, entryFile.lost), fault.Each(lost, func(f entryFile) error {
		text, err := os.ReadFile(f.copy)
		if err == nil {
			err = errors.Join(os.MkdirAll(filepath.Dir(f.path), 0o700), files.ReplaceFile(f.path, text, f.mode))
		}
		return fault.Wrap("putting back "+f.path, err)
	})
}

// TypedEntry returns the commands to type in place of RepairEntry.
func (s *Store) TypedEntry(b *Box) []string {
	var lines []string
	for _, f := range s.lostEntry(b) {
		lines = append(lines, "install -D -m "+fmt.Sprintf("%o", f.mode)+" "+files.QuoteAll([]string{f.copy, f.path}))
	}
	return lines
}
