package kept

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"boxrun/launcher/box"
	"boxrun/launcher/boxtest"
	"boxrun/launcher/fault"
	"boxrun/launcher/testkit"
	"boxrun/profiles"
)

// store returns a store, with ownDirs in a directory of the test that has the files.
func store(t *testing.T, paths ...string) *box.Store {
	t.Helper()
	dir, before := t.TempDir(), ownDirs
	ownDirs = filepath.Join(dir, "lib")
	t.Cleanup(func() { ownDirs = before })
	for _, path := range paths {
		path = filepath.Join(ownDirs, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("data"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return &box.Store{Dir: filepath.Join(dir, "run"), Note: func(string) {}}
}

// names returns the names of what is found, or the error.
func names(s *box.Store, args ...string) string {
	items, err := Find(s, args)
	if err != nil {
		return err.Error()
	}
	var list []string
	for _, i := range items {
		list = append(list, strings.TrimSuffix(i.Name+" by "+i.UsedBy, " by "))
	}
	return strings.Join(list, ", ")
}

func TestFind(t *testing.T) {
	s := store(t, "web/overlay/upper/a", "web/data/b", "db/overlay/c", "old/.boxrun-removing-overlay/d")
	testkit.WantText(t, names(s), "db/overlay, old/overlay (removed in part), web/data, web/overlay")
	testkit.WantText(t, names(s, "web", "db/overlay"), "db/overlay, web/data, web/overlay")
	testkit.WantText(t, names(s, "web", "we"), "nothing of we is kept")
	b := boxtest.Of("other", func(p *profiles.Profile) {
		p.Storage.Binds = []profiles.Bind{{Source: filepath.Join(ownDirs, "web/data/sub")}}
	})
	if err := s.Save(b); err != nil {
		t.Fatal(err)
	}
	if err := s.Save(boxtest.Of("db", func(*profiles.Profile) {})); err != nil {
		t.Fatal(err)
	}
	testkit.WantText(t, names(s, "web", "db"), "db/overlay by db, web/data by other, web/overlay")
}

func TestRemove(t *testing.T) {
	s := store(t, "web/overlay/upper/a", "web/.boxrun-removing-data/b", "db/overlay/c")
	outside := filepath.Join(t.TempDir(), "stays")
	if err := os.WriteFile(outside, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Dir(outside), filepath.Join(ownDirs, "web/overlay/link")); err != nil {
		t.Fatal(err)
	}
	items, err := Find(s, []string{"web/overlay"})
	if err != nil {
		t.Fatal(err)
	}
	if err := Remove(t.Context(), s, items[0]); err != nil {
		t.Fatal(err)
	}
	testkit.WantText(t, names(s), "db/overlay")
	if _, err := os.Stat(outside); err != nil {
		t.Errorf("a link led the removal out: %v", err)
	}
	if err := s.Save(boxtest.Of("db", func(*profiles.Profile) {})); err != nil {
		t.Fatal(err)
	}
	items, err = Find(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := Remove(t.Context(), s, items[0]); !errors.Is(err, fault.ErrRefused) {
		t.Errorf("got %v, want ErrRefused for a box with a record", err)
	}
	testkit.WantText(t, names(s), "db/overlay by db")
}

// What is exported is what was there; a file of holes stays small.
func TestExport(t *testing.T) {
	s := store(t, "web/overlay/upper/a")
	if err := os.Truncate(filepath.Join(ownDirs, "web/overlay/upper/a"), 1<<30); err != nil {
		t.Fatal(err)
	}
	items, err := Find(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	Measure(&items[0])
	if items[0].Bytes > 1<<20 || items[0].Written.IsZero() {
		t.Errorf("a file of holes measures %d bytes, written %v", items[0].Bytes, items[0].Written)
	}
	var out bytes.Buffer
	if err := Export(t.Context(), s, items[0], &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	if out.Len() > 1<<20 {
		t.Errorf("the tar of a file of holes has %d bytes", out.Len())
	}
	var got strings.Builder
	for r := tar.NewReader(&out); ; {
		h, err := r.Next()
		if err != nil {
			break
		}
		fmt.Fprintf(&got, "%s %d\n", h.Name, h.Size)
	}
	testkit.WantText(t, got.String(), "overlay/ 0\noverlay/upper/ 0\noverlay/upper/a 1073741824\n")
}
