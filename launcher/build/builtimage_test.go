package build

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"boxrun/launcher/box"
	"boxrun/launcher/testkit"
	"boxrun/profiles"
)

// sandboxBuild gives a build of a sandbox below dir, and a function that stands for Apptainer: it makes the image.
func sandboxBuild(t *testing.T, dir string) (j building, build func()) {
	t.Helper()
	j = building{store: &box.Store{Dir: t.TempDir()}, profile: profiles.Profile{Name: "web", File: "web.toml"}, image: filepath.Join(dir, "web"), sandbox: true}
	return j, func() {
		t.Helper()
		if err := os.MkdirAll(j.made(), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// knownAs gives of which fingerprint the image is known to be, and whether a build would replace it.
func knownAs(t *testing.T, j building) string {
	t.Helper()
	r, ok, err := readBuilt(j.image)
	if err != nil {
		t.Fatal(err)
	}
	if !ok {
		r.Fingerprint = "unknown"
	}
	return fmt.Sprint(r.Fingerprint, " ", j.refuseStranger())
}

// Whenever a build is killed, the next one knows the sandbox that is in place for boxrun's own, and never for that of another
// definition. What is somebody else's stays somebody else's.
func TestKilledWhileItPutsASandboxInPlace(t *testing.T) {
	j, build := sandboxBuild(t, t.TempDir())
	stranger := fmt.Sprintf("unknown %q is not as boxrun has built it: there may be work of yours in it", j.image)
	for i, want := range []string{"unknown <nil>", "one <nil>", "unknown <nil>", "two <nil>"} {
		var err error
		if i%2 == 0 {
			build()
			err = j.note(builtImage{Fingerprint: []string{"one", "two"}[i/2]})
		} else {
			_, err = j.swap()
		}
		if err != nil {
			t.Fatal(err)
		}
		testkit.WantText(t, knownAs(t, j), want)
	}
	if err := os.Rename(j.made(), j.image+".mine"); err != nil { // the first one, which was swapped out
		t.Fatal(err)
	}
	if err := os.Rename(j.image, j.made()); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(j.image, 0o755); err != nil {
		t.Fatal(err)
	}
	testkit.WantText(t, knownAs(t, j), stranger)
	if err := j.note(builtImage{Fingerprint: "three"}); err != nil { // as with --force
		t.Fatal(err)
	}
	testkit.WantText(t, knownAs(t, j), stranger)
}

// The record of an image is on a disk: a power cut may empty it, and another boxrun may have written it.
func TestARecordThatMakesNoSense(t *testing.T) {
	j, _ := sandboxBuild(t, t.TempDir())
	j.image += ".sif"
	for _, text := range []string{"", "{", `{"version": 99, "state": {}}`, `{"version": 1, "state": {"later": 1}}`} {
		for _, file := range []string{j.image, builtFile(j.image)} {
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		why, err := j.outdated(t.Context())
		testkit.WantText(t, fmt.Sprint(why, err), "it is not known what the image was built from<nil>")
	}
}

func TestCleaningUpAfterABuild(t *testing.T) {
	dir := t.TempDir()
	j, build := sandboxBuild(t, dir)
	build()
	id, err := box.Identify(j.made())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(j.made(), box.KeptImage(j.image, id.Inode)); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, ".web.old-mine"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := j.clean(); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	testkit.WantText(t, fmt.Sprint(left, err), fmt.Sprintf("[%s] <nil>", filepath.Join(dir, ".web.old-mine")))
}
