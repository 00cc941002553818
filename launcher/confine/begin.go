package confine

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"boxrun/launcher/files"
)

// At its beginning a systemd prepares for what a box does not have: a place of the journal that is mounted late, and
// credentials from a machine manager. Each service with credentials costs a process and a mount, even where there are none.
// The first services of the image wait for all that.

// shortenBoot has the box's systemd leave these preparations out. An image without systemd has no /run of boxrun's.
func shortenBoot() error {
	if !files.Exists("/run/systemd") {
		return nil
	}
	err := openJournal()
	for unit, resets := range idleImporters("/") {
		err = errors.Join(err, dropIn(unit, "[Service]\n"+resets))
	}
	return err
}

// flushed is the mark by which journald opens the journal in /var/log/journal as it begins. Without the mark journald begins
// in /run/log/journal, and copies all once systemd-journal-flush.service tells that /var is mounted.
const flushed = "/run/systemd/journal/flushed"

// openJournal has journald begin where its journal stays, and leaves systemd-journal-flush.service out, for which
// systemd-tmpfiles waits. In an image that mounts that place itself the journal begins in /run/log/journal, as on a machine.
func openJournal() error {
	if mountsLate("/") {
		return nil
	}
	err := os.MkdirAll(filepath.Dir(flushed), 0o755)
	return errors.Join(err, emptyFile(flushed), dropIn("systemd-journal-flush.service", "[Unit]\nConditionPathExists=!"+flushed+"\n"))
}

// mountsLate reports whether the image at root mounts something over the place of the journal after systemd has begun.
func mountsLate(root string) bool {
	above := map[string]string{"/var": "var", "/var/log": "var-log", journals: "var-log-journal"}
	lines, err := mountLines(filepath.Join(root, "/etc/fstab"))
	for _, words := range lines {
		if len(words) > 1 && above[filepath.Clean(words[1])] != "" {
			return true
		}
	}
	for _, name := range above {
		if hasUnit(root, name+".mount") || hasUnit(root, name+".automount") {
			return true
		}
	}
	return err != nil
}

// hasUnit reports whether the image at root has a file for a unit.
func hasUnit(root, unit string) bool {
	return slices.ContainsFunc(unitDirs(), func(dir string) bool { return isThere(filepath.Join(root, dir, unit)) })
}

// unitDirs are where an image has units.
func unitDirs() []string {
	return []string{"/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"}
}

// importers are the units of systemd that a boot waits for, and that take credentials from a machine manager.
func importers() []string {
	return []string{
		"systemd-journald.service", "systemd-sysusers.service", "systemd-tmpfiles-setup.service",
		"systemd-tmpfiles-setup-dev.service", "systemd-tmpfiles-setup-dev-early.service",
	}
}

// idleImporters returns the importers of the image at root that find no credentials, as boxrun gives a box none, each with the
// lines that reset what it would take. In an image with credentials of its own there are none, and an administrator's own
// unit is not among them.
func idleImporters(root string) map[string]string {
	idle := map[string]string{}
	if os.Getenv("CREDENTIALS_DIRECTORY") != "" || len(namesIn(root, credentialStores()...)) > 0 {
		return idle
	}
	for _, unit := range importers() {
		if resets := resetsOf(root, unit); resets != "" && !isThere(filepath.Join(root, "/etc/systemd/system", unit)) {
			idle[unit] = resets
		}
	}
	return idle
}

// resetsOf returns the lines that reset the credentials of a packaged unit. A systemd complains of settings that it does not
// know, so a setting that the unit lacks is not among them.
func resetsOf(root, unit string) (lines string) {
	const most = 1 << 16
	var text string
	for _, dir := range []string{"/lib/systemd/system", "/usr/lib/systemd/system"} {
		if text == "" {
			text, _ = files.ReadSmall(filepath.Join(root, dir, unit), most) // without text nothing is reset
		}
	}
	for _, setting := range []string{"LoadCredential=", "ImportCredential="} {
		if strings.Contains(text, "\n"+setting) {
			lines += setting + "\n"
		}
	}
	return lines
}

// credentialStores are where systemd looks for credentials that a unit names without a path (systemd.exec(5)).
func credentialStores() []string {
	var dirs []string
	for _, dir := range []string{"/etc", "/run", "/usr/local/lib", "/usr/lib"} {
		dirs = append(dirs, dir+"/credstore", dir+"/credstore.encrypted")
	}
	return dirs
}
