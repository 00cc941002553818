package launcher

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"boxrun/launcher/box"
	"boxrun/launcher/boxtest"
	"boxrun/launcher/conf"
	"boxrun/launcher/files"
	"boxrun/launcher/storage"
	"boxrun/launcher/testkit"
	"boxrun/profiles"
)

// killedStart leaves below root the same files as a killed start of web. The start ran from a sandbox replaced by a
// build since, and made an overlay and directories; another box has put something into one of the directories.
// killedStart returns the launcher and the box.
func killedStart(t *testing.T, root string) (*Launcher, *box.Box) {
	t.Helper()
	l := &Launcher{Store: &box.Store{Dir: filepath.Join(root, "run"), Note: func(string) {}}}
	b := boxtest.Of("web", func(p *profiles.Profile) {
		p.Image = filepath.Join(root, "boxes/web")
		p.Storage.Root, p.Storage.Overlay = "overlay", filepath.Join(root, "lib/web/it's/overlay")
	})
	b.Record, b.Log = filepath.Join(root, "apps/web/web.json"), filepath.Join(root, "logs/web.err")
	files := []string{b.Record, b.Log, b.OutLog(), b.Profile.Image + "/sbin/init", filepath.Join(l.ConfDir("web"), "hosts"), l.Conf()}
	if err := errors.Join(os.MkdirAll(filepath.Join(root, "lib"), 0o755), l.Save(b), storage.Needed(b.Profile)[0].Make(l.Store, b),
		storage.Dirs{Key: "storage.binds", Paths: []string{filepath.Join(root, "lib/shared/web"), filepath.Join(root, "lib/web/data")}}.Make(l.Store, b)); err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, b.Overlay()+"/upper/f", filepath.Join(root, "lib/shared/other")) {
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, nil, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.NoteImage(b.Profile.Image); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Rename(b.Profile.Image, box.KeptImage(b.Profile.Image, b.Image.Inode)), os.Mkdir(b.Profile.Image, 0o755)); err != nil {
		t.Fatal(err)
	}
	return l, b
}

// The commands of down --dry-run leave the same files of a box as down.
func TestTypingWhatRemovesABox(t *testing.T) {
	root := filepath.Join(t.TempDir(), "by")
	l, b := killedStart(t, root)
	if err := errors.Join(l.removeOwn(t.Context(), b), files.RemoveIfThere(l.BoxFile("web")), files.RemoveIfThere(l.Conf())); err != nil {
		t.Fatal(err)
	}
	l.RemoveEmpty("boxes", "")
	want := testkit.Tree(t, root)
	if err := os.RemoveAll(root); err != nil {
		t.Fatal(err)
	}

	l, b = killedStart(t, root)
	left, err := l.leftovers(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, r := range left {
		lines = append(lines, r.Command())
	}
	shared, err := l.typedForget(b, nil)
	if err != nil {
		t.Fatal(err)
	}
	script := strings.Join(append(lines, shared...), "\n")
	if out, err := exec.CommandContext(t.Context(), "bash", "-ec", script).CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("typing\n%s\n%v: %s", script, err, out)
	}
	testkit.WantText(t, testkit.Tree(t, root), want)
	testkit.WantText(t, strings.Join(testkit.Names(t, filepath.Join(root, "lib")), " ")+"; "+strings.Join(testkit.Names(t, filepath.Join(root, "boxes")), " "), "shared; web")
}

// The boxes that stay are told of the box that goes, as down tells them. The network shared with them stays.
func TestTypingWhatForgetsABoxAmongOthers(t *testing.T) {
	l := &Launcher{Store: &box.Store{Dir: t.TempDir()}}
	db, web := boxtest.At(t, "db", "10.22.0.2", "db", "sbr0"), boxtest.At(t, "web", "10.22.0.3", "web", "sbr0")
	lines, err := l.typedForget(web, []*box.Box{db})
	if err != nil {
		t.Fatal(err)
	}
	testkit.WantText(t, strings.Join(lines, "\n"), "rm -rf "+l.BoxFile("web")+"\n"+
		conf.HostsFile(l.Store, db, []*box.Box{db}).Command())
}
