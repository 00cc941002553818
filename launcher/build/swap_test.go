package build

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"boxrun/launcher/box"
	"boxrun/launcher/process"
	"boxrun/launcher/testkit"
	"boxrun/profiles"
)

// A replaced sandbox stays while a box runs from it. A box started by an older boxrun may run from the sandbox too: its
// state does not say. The box in this test is the test's own process.
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
			l := &box.Store{Dir: t.TempDir(), Note: func(string) {}}
			images := t.TempDir()
			p := profiles.Profile{Name: "web", Image: filepath.Join(images, "web"), Build: profiles.Build{Definition: "/web.def"}}
			j, err := buildingOf(p)
			if err != nil {
				t.Fatal(err)
			}
			j.store = l
			for _, dir := range []string{j.image, j.made(), j.temporary()} {
				if err := os.MkdirAll(filepath.Join(dir, "etc"), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			b := runningBox(t, p)
			if !test.runs {
				b.Init.Start++
			}
			if test.known {
				if err := b.NoteImage(p.Image); err != nil {
					t.Fatal(err)
				}
			}
			if err := l.Save(b); err != nil {
				t.Fatal(err)
			}
			kept, err := j.swap()
			if err != nil {
				t.Fatal(err)
			}
			if got := kept != ""; got != test.kept {
				t.Errorf("kept in %q, want one %v", kept, test.kept)
			}
			for range 2 { // the end of this build, and the beginning of the next
				if err := j.clean(); err != nil {
					t.Fatal(err)
				}
			}
			want := "web"
			if test.kept {
				want = filepath.Base(kept) + " web"
			}
			testkit.WantText(t, strings.Join(testkit.Names(t, images), " "), want)
			b.Init.Start++ // it ends
			if err := l.Save(b); err != nil {
				t.Fatal(err)
			}
			if err := j.clean(); err != nil {
				t.Fatal(err)
			}
			testkit.WantText(t, strings.Join(testkit.Names(t, images), " "), "web")
		})
	}
}

// runningBox returns a box that runs; its processes are this process.
func runningBox(t *testing.T, p profiles.Profile) *box.Box {
	t.Helper()
	b := &box.Box{Name: "web", Phase: box.Running, Profile: p}
	var err, procErr error
	b.BootID, err = process.BootID()
	b.Init, procErr = process.Open(os.Getpid())
	if err := errors.Join(err, procErr); err != nil {
		t.Fatal(err)
	}
	return b
}

// A reader finds an image at every moment while images are replaced.
func TestTheImageIsNeverMissing(t *testing.T) {
	for _, j := range []building{{image: filepath.Join(t.TempDir(), "web.sif")}, {image: filepath.Join(t.TempDir(), "web"), sandbox: true}} {
		t.Run(filepath.Base(j.image), func(t *testing.T) {
			j.store = &box.Store{Dir: t.TempDir()}
			if err := replaceImage(j); err != nil {
				t.Fatal(err)
			}
			var over atomic.Bool
			var watcher sync.WaitGroup
			looks, missing := 0, 0
			watcher.Go(func() {
				for ; !over.Load(); looks++ {
					if _, err := os.Lstat(j.image); err != nil {
						missing++
					}
				}
			})
			var err error
			for n := 0; n < 200 && err == nil; n++ {
				err = replaceImage(j)
			}
			over.Store(true)
			watcher.Wait()
			if err != nil || missing > 0 || looks < 200 {
				t.Errorf("%v; of %d looks %d found no image, want many, and none of those", err, looks, missing)
			}
		})
	}
}

// replaceImage makes an image in Apptainer's place, and puts the image in place of the old.
func replaceImage(j building) error {
	if err := os.MkdirAll(j.work(), 0o755); err != nil {
		return err
	}
	var err error
	if j.sandbox {
		err = os.Mkdir(j.made(), 0o755)
	} else {
		err = os.WriteFile(j.made(), []byte("image"), 0o644)
	}
	if err != nil {
		return err
	}
	_, err = j.swap()
	return errors.Join(err, os.RemoveAll(j.work()))
}

// A box may claim the image before the build takes the lock. The build then finds the box, and the box keeps its
// image.
func TestABoxThatComesUpKeepsItsImage(t *testing.T) {
	l := &box.Store{Dir: t.TempDir(), Note: func(string) {}}
	j := building{store: l, image: filepath.Join(t.TempDir(), "web.sif")}
	if err := replaceImage(j); err != nil {
		t.Fatal(err)
	}
	unlock, err := l.LockNetwork(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	placed := make(chan error, 1)
	go func() {
		_, err := j.install(t.Context(), builtImage{})
		placed <- err
	}()
	select {
	case <-time.After(100 * time.Millisecond):
	case err := <-placed:
		t.Fatalf("got %v, want it to wait for the box", err)
	}
	err = l.Save(runningBox(t, profiles.Profile{Name: "web", Image: j.image}))
	unlock()
	if err = errors.Join(err, <-placed); err == nil || !strings.HasPrefix(err.Error(), "web runs from ") {
		t.Errorf("got %v, want that web runs from the image", err)
	}
}
