package journal

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"boxrun/launcher/box"
	"boxrun/launcher/testkit"
	"boxrun/profiles"
)

// The journal is looked for where the box's /var/log/journal is kept on the host.
func TestPlaceOfAJournal(t *testing.T) {
	bind := func(source, target string) profiles.Bind { return profiles.Bind{Source: source, Target: target} }
	for _, c := range []struct {
		root  string
		binds []profiles.Bind
		want  string
	}{
		{"tmpfs", nil, "{ } false"},
		{"read-only", []profiles.Bind{bind("/srv/data", "/var/lib")}, "{ } false"},
		{"overlay", nil, "{/data/o/upper var/log/journal} true"},
		{"overlay", []profiles.Bind{bind("/srv/var", "/var")}, "{/srv/var log/journal} true"},
		{"tmpfs", []profiles.Bind{bind("/srv/var", "/var"), bind("/srv/log", "/var/log")}, "{/srv/log journal} true"},
		{"tmpfs", []profiles.Bind{bind("/srv/log", "/var/log"), bind("/srv/var", "/var")}, "{/srv/log journal} true"},
		{"tmpfs", []profiles.Bind{bind("/srv/j", "/var/log/journal")}, "{/srv/j .} true"},
		{"tmpfs", []profiles.Bind{bind("/srv/j", "/var/log/journal/x"), bind("/srv/j", "/var/logs")}, "{ } false"},
	} {
		p := profiles.Profile{Storage: profiles.Storage{Root: c.root, Overlay: "/data/o", Binds: c.binds}}
		at, ok := placeOf(p)
		testkit.WantText(t, fmt.Sprint(at, ok), c.want)
	}
}

// A box leads nobody out of its own files: a link on the way to its journal is no journal.
func TestLastJournalFollowsNoLink(t *testing.T) {
	overlay, elsewhere := t.TempDir(), t.TempDir()
	store := &box.Store{Dir: t.TempDir()}
	p := profiles.Profile{Storage: profiles.Storage{Root: "overlay", Overlay: overlay}}
	image := p
	image.Storage.Overlay = filepath.Join(elsewhere, "overlay.img")
	if err := os.WriteFile(image.Storage.Overlay, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if dir, err := lastJournal(store, image); dir != nil || err != nil {
		t.Errorf("below an overlay image there is no journal that could be refused: %v", err)
	}
	log := filepath.Join(overlay, "upper/var/log")
	write := func(dir string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(dir, "0123"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "0123/system.journal"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if dir, err := lastJournal(store, p); dir != nil || err != nil {
		t.Error("a box that never ran has a journal")
	}
	if err := os.MkdirAll(log, 0o755); err != nil {
		t.Fatal(err)
	}
	write(elsewhere)
	if err := os.Symlink(elsewhere, filepath.Join(log, "journal")); err != nil {
		t.Fatal(err)
	}
	if dir, err := lastJournal(store, p); dir != nil || err == nil {
		t.Error("a link led out of the box")
	}
	if err := os.Remove(filepath.Join(log, "journal")); err != nil {
		t.Fatal(err)
	}
	write(filepath.Join(log, "journal"))
	dir, _ := lastJournal(store, p)
	if dir == nil {
		t.Fatal("the journal in the overlay is not found")
	}
	dir.Close()
	machine := filepath.Join(log, "journal/0123")
	for name, put := range map[string]func(string) error{
		"a link to a file":   func(at string) error { return os.Symlink(filepath.Join(elsewhere, "0123/system.journal"), at) },
		"a link to journals": func(at string) error { return os.Symlink(elsewhere, at) },
		"a pipe":             func(at string) error { return unix.Mkfifo(at, 0o600) },
	} {
		for _, at := range []string{machine + "/x.journal", log + "/journal/x"} {
			if err := put(at); err != nil {
				t.Fatal(err)
			}
			if dir, err := lastJournal(store, p); dir != nil || err == nil {
				t.Errorf("%s at %s is for journalctl to read, or nobody says that it is refused", name, at)
			}
			if err := os.Remove(at); err != nil {
				t.Fatal(err)
			}
		}
	}
}
