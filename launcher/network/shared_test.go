package network

import (
	"errors"
	"os"
	"strings"
	"testing"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/testkit"
	"boxrun/profiles"
)

// One file that cannot be read is no reason to leave the other boxes alone.
func TestBoxesBesideOneThatCannotBeRead(t *testing.T) {
	var notes []string
	l := &box.Store{Dir: t.TempDir(), Note: func(line string) { notes = append(notes, line) }}
	for _, name := range []string{"db", "web"} {
		if err := l.Save(&box.Box{Name: name, Profile: testkit.Profile(name, func(*profiles.Profile) {})}); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(l.BoxFile("mail"), []byte(`{"version": 2, "state": {}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	boxes, err := l.All()
	testkit.WantText(t, strings.Join(box.Names(boxes), " "), "db web")
	if !errors.Is(err, box.ErrUnreadable) {
		t.Fatalf("got %v, want %v", err, box.ErrUnreadable)
	}
	testkit.WantText(t, fault.HintOf(err), `"boxrun down mail" stops the box and takes away what can be found by its name`)

	if err := Forget(t.Context(), l, nil, "web"); err != nil { // it asks no kernel for what must stay
		t.Fatal(err)
	}
	testkit.WantText(t, strings.Join(notes, "\n"), "stays: the network that boxes share: state file "+l.BoxFile("mail")+
		" is of version 2, this boxrun reads 1")
	testkit.WantText(t, strings.Join(testkit.Names(t, l.Path("boxes")), " "), "db.json mail.json")
}
