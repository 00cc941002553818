package box

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"boxrun/profiles"
)

// JournalDir is the host's directory of journals, each in a directory named by its machine's id.
const JournalDir = "/var/log/journal"

// KeepsJournal reports whether the host keeps the journal of a box of the profile: the profile asks for it, and the
// image has a systemd.
func KeepsJournal(p profiles.Profile) bool {
	return p.Systemd.Journal == profiles.HostJournal && !IsHello(p.Image)
}

// HostJournal returns the directory of the host, and of the box, for the journal of a box that KeepsJournal.
func HostJournal(p profiles.Profile) (string, error) {
	id, err := MachineID(p.Name)
	return filepath.Join(JournalDir, id), err
}

// MachineID returns the machine id of the named box: the same at every start on this host, and another on every other
// host. Nobody learns the host's id from it, as with sd_id128_get_machine_app_specific(3).
func MachineID(name string) (string, error) {
	text, err := os.ReadFile("/etc/machine-id")
	if err != nil {
		return "", fmt.Errorf("making a machine id for box %q of the host's: %w", name, err)
	}
	return machineID(strings.TrimSpace(string(text)), name), nil
}

// machineID returns the id of a box on the host with an id. The id is a UUID of version 4, as systemd's are.
func machineID(host, name string) string {
	mac := hmac.New(sha256.New, []byte(host))
	mac.Write([]byte("boxrun box " + name))
	id := mac.Sum(nil)[:16]
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return hex.EncodeToString(id)
}
