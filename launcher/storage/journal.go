package storage

import (
	"fmt"
	"os"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/profiles"
)

// RefuseJournal refuses [systemd] journal = "host" on a host that keeps no journals itself: the directory would turn
// the host's own journal into a kept journal, too. Error: ErrRefused.
func RefuseJournal(p profiles.Profile) error {
	if !box.KeepsJournal(p) {
		return nil
	}
	if info, err := os.Stat(box.JournalDir); err == nil && info.IsDir() {
		_, err = box.MachineID(p.Name)
		return err
	}
	return fault.Refused("\"mkdir "+box.JournalDir+"; systemctl restart systemd-journald\" makes the host keep journals",
		"%s: systemd.journal: \"host\" is for a host that keeps journals, and this host has no %s", p.File, box.JournalDir)
}

// journalDirs returns the directory of the host for the journal of a box of the profile, if any.
func journalDirs(p profiles.Profile) []Dirs {
	if !box.KeepsJournal(p) {
		return nil
	}
	dir, err := box.HostJournal(p)
	if err != nil {
		return nil // RefuseJournal has told
	}
	return []Dirs{{"systemd.journal", []string{dir}, dir}}
}

// JournalBinds returns the bind for a journal that the host keeps, in Apptainer's SRC:DST: the same path in the box.
func JournalBinds(p profiles.Profile) []string {
	var binds []string
	for _, d := range journalDirs(p) {
		binds = append(binds, fmt.Sprintf("%s:%s", d.Paths[0], d.Paths[0]))
	}
	return binds
}
