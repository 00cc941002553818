package storage

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"boxrun/launcher/box"
	"boxrun/launcher/boxtest"
	"boxrun/launcher/files"
	"boxrun/launcher/process"
	"boxrun/launcher/testkit"
	"boxrun/profiles"
)

func TestUnfitUpper(t *testing.T) {
	for magic, want := range map[int64]string{
		unix.NFS_SUPER_MAGIC:       "NFS",
		unix.FUSE_SUPER_MAGIC:      "FUSE",
		unix.OVERLAYFS_SUPER_MAGIC: "an overlay itself",
		unix.EXT4_SUPER_MAGIC:      "",
		unix.XFS_SUPER_MAGIC:       "",
		unix.BTRFS_SUPER_MAGIC:     "",
		unix.TMPFS_MAGIC:           "",
	} {
		if got, _ := unfitUpper(magic); got != want {
			t.Errorf("%#x: got %q, want %q", magic, got, want)
		}
	}
}

func TestSameDir(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "a"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"link": "a", "up": ".", "dangling": "nowhere"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		a, b string
		want bool
	}{
		{"a", "a", true},
		{"a", "link", true},
		{"a", "up/up/link", true},
		{"a/new/one", "link/new/one", true},
		{"up/new", "new", true},
		{"a", ".", false},
		{"a/new", "a/other", false},
		{"new", "a/new", false},
		{"dangling", "a", false},
	} {
		if got := sameDir(filepath.Join(dir, test.a), filepath.Join(dir, test.b)); got != test.want {
			t.Errorf("%s and %s: got %v, want %v", test.a, test.b, got, test.want)
		}
	}
}

// A failed start removes an overlay made by the start, and the directories above, and keeps what was there before.
func TestOverlayOfAFailedStart(t *testing.T) {
	l := &box.Store{Dir: t.TempDir(), Note: func(string) {}}
	there := t.TempDir()
	dir := filepath.Join(there, "made/too/data")
	b := boxtest.Of("web", func(p *profiles.Profile) { p.Storage.Root, p.Storage.Overlay = "overlay", dir })
	for _, want := range []bool{false, true} {
		if err := makeDirs(l, b, Needed(b.Profile)...); err != nil {
			t.Fatal(err)
		}
		saved, err := l.Load("web")
		if err != nil {
			t.Fatal(err)
		}
		if err := removeMade(saved); err != nil || files.Exists(dir) != want {
			t.Errorf("got %v, there %v, want no error and %v", err, files.Exists(dir), want)
		}
		if files.Exists(filepath.Join(there, "made")) != want || !files.Exists(there) {
			t.Errorf("above it is %v, want %v", files.Exists(filepath.Join(there, "made")), want)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		b.MadeOverlay, b.MadeDirs = false, nil
		if err := l.Save(b); err != nil {
			t.Fatal(err)
		}
	}
}

// A failure to save the state must not be blamed on the profile's overlay.
func TestOverlayWhoseNoteCannotBeSaved(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "full"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l := &box.Store{Dir: filepath.Join(root, "full")}
	b := boxtest.Of("web", func(p *profiles.Profile) { p.Storage.Root, p.Storage.Overlay = "overlay", filepath.Join(root, "data") })
	testkit.WantText(t, said(makeDirs(l, b, Needed(b.Profile)...)), "writing state file "+root+"/full/boxes/web.json: mkdir "+root+"/full: not a directory -> ")
	if files.Exists(b.Overlay()) {
		t.Error("the overlay was made, which nothing would remove")
	}
	l.Dir = root
	b.Profile.Storage.Overlay = filepath.Join(root, "full/data")
	testkit.WantText(t, said(makeDirs(l, b, Needed(b.Profile)...)), b.Profile.File+": storage.overlay: mkdir "+root+"/full/data: not a directory"+
		" -> name another directory")
}

// startingBox returns a box in the middle of its start.
func startingBox(t *testing.T, name string, change func(*profiles.Profile)) *box.Box {
	t.Helper()
	b := boxtest.Of(name, change)
	id, err := process.BootID()
	if err != nil {
		t.Fatal(err)
	}
	b.Phase, b.BootID = box.Starting, id
	return b
}

// Two boxes have no overlay within each other's, and a bind of another's is warned of.
func TestOverlaysWithinEachOther(t *testing.T) {
	root := t.TempDir()
	testkit.Links(t, root, map[string]string{"link": "a/upper"})
	if err := os.MkdirAll(filepath.Join(root, "a/upper"), 0o755); err != nil {
		t.Fatal(err)
	}
	overlay := func(name string) func(*profiles.Profile) {
		return func(p *profiles.Profile) { p.Storage.Root, p.Storage.Overlay = "overlay", filepath.Join(root, name) }
	}
	a := startingBox(t, "oa", overlay("a"))
	for name, want := range map[string]string{"a": "is", "a/upper": "lies below", "a/upper/new": "lies below", "link": "lies below", ".": "holds", "b": ""} {
		if want != "" {
			want = fmt.Sprintf("/etc/boxrun/profiles/ob.toml: storage.overlay: %q %s the overlay of box \"oa\" -> name another directory as overlay, or run \"boxrun down oa\" first",
				filepath.Join(root, name), want)
		}
		testkit.WantText(t, said(RefuseTaken(boxtest.Of("ob", overlay(name)).Profile, []*box.Box{a})), want)
	}
	for _, c := range []struct {
		name     string
		readOnly bool
		want     string
	}{{"a", false, "is"}, {"a/upper", false, "lies below"}, {"", false, "holds"}, {"a", true, ""}, {"b", false, ""}} {
		source := filepath.Join(root, c.name)
		b := startingBox(t, "ob", func(p *profiles.Profile) {
			p.Storage.Binds = []profiles.Bind{{Source: source, Target: "/data", ReadOnly: c.readOnly}}
		})
		if c.want != "" {
			c.want = fmt.Sprintf("%q, which box \"ob\" can write, %s the overlay of box \"oa\": what both write is lost, or worse", source, c.want)
		}
		for _, pair := range [][2]*box.Box{{a, b}, {b, a}} {
			cautions, err := SharedTrees(pair[0], []*box.Box{pair[1]})
			got := ""
			for _, caution := range cautions {
				got += caution.Text
			}
			if err != nil {
				t.Error(err)
			}
			testkit.WantText(t, got, c.want)
		}
	}
}
