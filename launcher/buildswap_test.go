package launcher

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"boxrun/profiles"
)

// A sandbox that was swapped out stays for as long as a box runs from it, or may: it is not known of one that an older
// boxrun started. The box is this process.
func TestASandboxIsKeptForItsBox(t *testing.T) {
	for what, test := range map[string]struct {
		known, runs bool
		kept        bool
	}{
		"its box runs":                              {known: true, runs: true, kept: true},
		"a box runs, from an image nobody noted":    {runs: true, kept: true},
		"its box has crashed":                       {known: true},
		"a box that ran from an unnoted one is not": {},
	} {
		t.Run(what, func(t *testing.T) {
			l := &Launcher{Dir: t.TempDir(), Note: func(string) {}}
			images := t.TempDir()
			p := profiles.Profile{Name: "web", Image: filepath.Join(images, "web"), Build: profiles.Build{Definition: "/web.def"}}
			j, err := buildingOf(p)
			if err != nil {
				t.Fatal(err)
			}
			for _, dir := range []string{j.image, j.made(), j.temporary()} {
				if err := os.MkdirAll(filepath.Join(dir, "etc"), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			b := &Box{Name: "web", Phase: Running, Profile: p}
			if b.BootID, err = bootID(); err != nil {
				t.Fatal(err)
			}
			if b.Init, err = openProcess(os.Getpid()); err != nil {
				t.Fatal(err)
			}
			if !test.runs {
				b.Init.Start++
			}
			if test.known {
				if err := b.noteImage(p.Image); err != nil {
					t.Fatal(err)
				}
			}
			if err := l.save(b); err != nil {
				t.Fatal(err)
			}
			kept, err := l.swap(j)
			if err != nil {
				t.Fatal(err)
			}
			if got := kept != ""; got != test.kept {
				t.Errorf("kept in %q, want one %v", kept, test.kept)
			}
			for range 2 { // the end of this build, and the beginning of the next
				if err := l.clean(j); err != nil {
					t.Fatal(err)
				}
			}
			want := "web"
			if test.kept {
				want = filepath.Base(kept) + " web"
			}
			wantText(t, strings.Join(names(t, images), " "), want)
			b.Init.Start++ // it ends
			if err := l.save(b); err != nil {
				t.Fatal(err)
			}
			if err := l.clean(j); err != nil {
				t.Fatal(err)
			}
			wantText(t, strings.Join(names(t, images), " "), "web")
		})
	}
}
