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

	"golang.org/x/sys/unix"

	"boxrun/launcher/box"
	"boxrun/launcher/boxtest"
	"boxrun/launcher/fault"
	"boxrun/launcher/testkit"
	"boxrun/profiles"
)

// placesWith returns places in a directory of the test, with files of boxes' own.
func placesWith(t *testing.T, paths ...string) Places {
	t.Helper()
	dir := t.TempDir()
	own := filepath.Join(dir, "lib")
	for _, path := range paths {
		path = filepath.Join(own, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("data"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return Places{&box.Store{Dir: filepath.Join(dir, "run"), Note: func(string) {}}, own}
}

// names returns the names of what is found, or the error.
func names(s Places, args ...string) string {
	items, err := s.Find(args)
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
	s := placesWith(t, "web/overlay/upper/a", "web/data/b", "db/overlay/c", "old/.boxrun-removing-overlay/d")
	testkit.WantText(t, names(s), "db/overlay, old/overlay (removed in part), web/data, web/overlay")
	testkit.WantText(t, names(s, "web", "db/overlay"), "db/overlay, web/data, web/overlay")
	testkit.WantText(t, names(s, "web", "we"), "nothing of we is kept")
	b := boxtest.Of("other", func(p *profiles.Profile) {
		p.Storage.Binds = []profiles.Bind{{Source: filepath.Join(s.Own, "web/data/sub")}}
	})
	if err := s.Store.Save(b); err != nil {
		t.Fatal(err)
	}
	if err := s.Store.Save(boxtest.Of("db", func(*profiles.Profile) {})); err != nil {
		t.Fatal(err)
	}
	testkit.WantText(t, names(s, "web", "db"), "db/overlay by db, web/data by other, web/overlay")
}

// A sandbox that a build replaced is listed, and a stranger's file of a similar name is not. The profile names the image
// by a link.
func TestFindReplacedImages(t *testing.T) {
	s := placesWith(t, "images/web/etc/version", "images/old/etc/version", "images/.web.old-mine")
	dir := filepath.Join(s.Own, "images")
	id, err := box.Identify(filepath.Join(dir, "old"))
	if err != nil {
		t.Fatal(err)
	}
	profile := filepath.Join(t.TempDir(), "web.toml")
	err = errors.Join(os.Rename(filepath.Join(dir, "old"), box.KeptImage(filepath.Join(dir, "web"), id.Inode)), os.Symlink(dir, s.Own+"-link"),
		os.WriteFile(profile, []byte("image = \""+s.Own+"-link/web\"\n"), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	s.Own, s.Store.Search = filepath.Join(dir, "none"), profiles.Search{Dirs: []string{filepath.Dir(profile)}}
	testkit.WantText(t, names(s), fmt.Sprintf("web/image.old-%d", id.Inode))
}

func TestRemove(t *testing.T) {
	s := placesWith(t, "web/overlay/upper/a", "web/.boxrun-removing-data/b", "db/overlay/c")
	outside := filepath.Join(t.TempDir(), "stays")
	if err := os.WriteFile(outside, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Dir(outside), filepath.Join(s.Own, "web/overlay/link")); err != nil {
		t.Fatal(err)
	}
	items, err := s.Find([]string{"web/overlay"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(t.Context(), items[0]); err != nil {
		t.Fatal(err)
	}
	testkit.WantText(t, names(s), "db/overlay")
	if _, err := os.Stat(outside); err != nil {
		t.Errorf("a link led the removal out: %v", err)
	}
	if err := s.Store.Save(boxtest.Of("db", func(*profiles.Profile) {})); err != nil {
		t.Fatal(err)
	}
	items, err = s.Find(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(t.Context(), items[0]); !errors.Is(err, fault.ErrRefused) {
		t.Errorf("got %v, want ErrRefused for a box with a record", err)
	}
	testkit.WantText(t, names(s), "db/overlay by db")
}

// What is exported is what was there; a file of holes stays small.
func TestExport(t *testing.T) {
	s := placesWith(t, "web/overlay/upper/a")
	if err := os.Truncate(filepath.Join(s.Own, "web/overlay/upper/a"), 1<<30); err != nil {
		t.Fatal(err)
	}
	kept := unix.Setxattr(filepath.Join(s.Own, "web/overlay/upper"), "user.seen", []byte("1"), 0) == nil // or the tmpfs is old
	items, err := s.Find(nil)
	if err != nil {
		t.Fatal(err)
	}
	Measure(&items[0])
	if items[0].Bytes > 1<<20 || items[0].Written.IsZero() {
		t.Errorf("a file of holes measures %d bytes, written %v", items[0].Bytes, items[0].Written)
	}
	var out bytes.Buffer
	if err := s.Export(t.Context(), items[0], &out, io.Discard); err != nil {
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
		if kept && h.Name == "overlay/upper/" && h.PAXRecords["SCHILY.xattr.user.seen"] != "1" {
			t.Errorf("the extended attribute is lost: %v", h.PAXRecords)
		}
		fmt.Fprintf(&got, "%s %d\n", h.Name, h.Size)
	}
	testkit.WantText(t, got.String(), "overlay/ 0\noverlay/upper/ 0\noverlay/upper/a 1073741824\n")
}
