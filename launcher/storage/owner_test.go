package storage

import (
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"boxrun/launcher/box"
	"boxrun/launcher/boxtest"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/launcher/testkit"
	"boxrun/profiles"
)

// markedBox returns a box with an overlay in dir.
func markedBox(name, dir string) *box.Box {
	b := boxtest.Of(name, func(p *profiles.Profile) { p.Storage.Root, p.Storage.Overlay = "overlay", dir })
	b.Started = time.Now()
	return b
}

// otherMachine puts the mark of a box of another machine on an overlay.
func otherMachine(t *testing.T, b *box.Box) {
	t.Helper()
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local)
	text, err := json.Marshal(Owner{Machine: "0123456789abcdef", Host: "node2", Box: "db", Since: since})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ownerFile(b.Profile), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// release removes the marks of a box as a down does.
func release(t *testing.T, b *box.Box) {
	t.Helper()
	marks, err := Marks(b)
	if err != nil {
		t.Fatal(err)
	}
	if err := fault.Each(marks, files.Removal.Do); err != nil {
		t.Error(err)
	}
}

// A mark is made, stays for whoever has the overlay, and goes with its box alone.
func TestTheMarkOfWhoHasAnOverlay(t *testing.T) {
	dir := t.TempDir()
	first, second := markedBox("first", dir), markedBox("second", dir)
	steps := []struct {
		what string
		do   func() error
		want string // the error
		has  string // the box that the mark names afterwards, "" for no mark
	}{
		{"first starts", func() error { return ClaimOf(first, false).Make() }, "", "first"},
		{"first starts after a power loss", func() error { return ClaimOf(first, false).Make() }, "", "first"},
		{"second starts after first crashed", func() error { return ClaimOf(second, false).Make() }, "", "second"},
		{"first goes down", func() error { release(t, first); return nil }, "", "second"},
		{"second goes down", func() error { release(t, second); return nil }, "", ""},
		{"another machine comes", func() error { otherMachine(t, first); return nil }, "", "db"},
		{"first is refused", func() error { return ClaimOf(first, false).Make() }, "/etc/boxrun/profiles/first.toml: storage.overlay: \"" + dir +
			"\" is the overlay of box \"db\" on the machine node2 since 2026-01-02 03:04:05 -> run \"boxrun down db\" on node2;" +
			" if that machine is off for good, \"boxrun up --force first\" takes the overlay over", "db"},
		{"first is cleared", func() error { release(t, first); return nil }, "", "db"},
		{"first takes over", func() error { return ClaimOf(first, true).Make() }, "", "first"},
		{"the mark is cut short", func() error { return os.WriteFile(ownerFile(first.Profile), []byte("{\"mach"), 0o600) }, "", ""},
		{"first is refused again", func() error { return ClaimOf(first, false).Make() }, "/etc/boxrun/profiles/first.toml: storage.overlay: \"" + dir +
			"/boxrun-owner.json\", the mark of who has the overlay, names no machine -> if no other machine has the overlay," +
			" \"boxrun up --force first\" takes the overlay over", ""},
		{"first takes over again", func() error { return ClaimOf(first, true).Make() }, "", "first"},
	}
	for _, step := range steps {
		testkit.WantText(t, step.what+": "+said(step.do()), step.what+": "+step.want)
		o, _ := readOwner(ownerFile(first.Profile)) // without a mark the owner is empty
		testkit.WantText(t, step.what+": "+o.Box, step.what+": "+step.has)
	}
	if names, err := filepath.Glob(dir + "/*"); err != nil || len(names) != 1 {
		t.Errorf("got %q %v, want the mark alone", names, err)
	}
}

// Of many that come at once, on whatever machine, a single one finds the name free.
func TestMarksMadeAtOnce(t *testing.T) {
	mark := filepath.Join(t.TempDir(), ownerName)
	var made, all sync.WaitGroup
	var mu sync.Mutex
	got := 0
	made.Add(1)
	for i := range 20 {
		all.Go(func() {
			file := unpublished(mark, Owner{Machine: string(rune('a'+i)) + "1234567"})
			err := writeThrough(file, []byte("{}"))
			made.Wait()
			if err == nil && publish(file, mark) == nil {
				mu.Lock()
				got++
				mu.Unlock()
			}
		})
	}
	made.Done()
	all.Wait()
	if got != 1 {
		t.Errorf("%d made the mark, want 1", got)
	}
}

// A failed start removes the overlay that the start made, unless another machine has claimed the overlay meanwhile.
func TestAnOverlayClaimedMeanwhileStays(t *testing.T) {
	for _, claimed := range []bool{false, true} {
		b := markedBox("web", filepath.Join(t.TempDir(), "data"))
		if err := makeDirs(&box.Store{Dir: t.TempDir()}, b, Needed(b.Profile)...); err != nil {
			t.Fatal(err)
		}
		if claimed {
			otherMachine(t, b)
		}
		if err := removeMade(b); err != nil {
			t.Error(err)
		}
		if files.Exists(b.Overlay()) != claimed {
			t.Errorf("claimed %v: there is %v", claimed, !claimed)
		}
	}
}
