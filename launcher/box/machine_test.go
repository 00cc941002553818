package box

import (
	"regexp"
	"testing"

	"boxrun/launcher/testkit"
	"boxrun/profiles"
)

// The id of a box stays with the box's name: a journal kept under the id has to be found after years.
func TestMachineID(t *testing.T) {
	const host = "0123456789abcdef0123456789abcdef"
	id := machineID(host, "web")
	testkit.WantText(t, id, machineID(host, "web"))
	if !regexp.MustCompile(`^[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}$`).MatchString(id) {
		t.Errorf("%s is no UUID of version 4", id)
	}
	if id == machineID(host, "db") || id == machineID(host[1:]+"0", "web") || id == host {
		t.Error("another box, or another host, has the same id")
	}
}

func TestKeepsJournal(t *testing.T) {
	p := profiles.Default()
	p.Image = "/srv/web"
	if KeepsJournal(p) {
		t.Error("the host keeps a journal unasked")
	}
	p.Systemd.Journal = profiles.HostJournal
	if !KeepsJournal(p) {
		t.Error("the host does not keep the journal")
	}
	if p.Image = "builtin:hello"; KeepsJournal(p) {
		t.Error("the host keeps the journal of a box without journald")
	}
}
