package launcher

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"boxrun/launcher/testkit"
	"boxrun/profiles"
)

// killedStart leaves below root the same files as a killed start of web. The start ran from a sandbox replaced by a
// build since, and made an overlay and directories; another box has put something into one of the directories.
// killedStart returns the launcher and the box.
func killedStart(t *testing.T, root string) (*Launcher, *Box) {
	t.Helper()
	l := &Launcher{Store: &Store{Dir: filepath.Join(root, "run"), Note: func(string) {}}}
	b := boxOf("web", func(p *profiles.Profile) {
		p.Image = filepath.Join(root, "boxes/web")
		p.Storage.Root, p.Storage.Overlay = "overlay", filepath.Join(root, "lib/web/it's/overlay")
	})
	b.Record, b.Log = filepath.Join(root, "apps/web/web.json"), filepath.Join(root, "logs/web.err")
	files := []string{b.Record, b.Log, b.outLog(), b.Profile.Image + "/sbin/init", filepath.Join(l.confDir("web"), "hosts"), l.conf()}
	if err := errors.Join(os.MkdirAll(filepath.Join(root, "lib"), 0o755), l.save(b), l.makeOverlay(b, b.Profile),
		l.makeDirs(b, b.Profile, "storage.binds", []string{filepath.Join(root, "lib/shared/web"), filepath.Join(root, "lib/web/data")})); err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, b.overlay()+"/upper/f", filepath.Join(root, "lib/shared/other")) {
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, nil, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.noteImage(b.Profile.Image); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Rename(b.Profile.Image, keptImage(b.Profile.Image, b.Image.Inode)), os.Mkdir(b.Profile.Image, 0o755)); err != nil {
		t.Fatal(err)
	}
	return l, b
}

// The commands of down --dry-run leave the same files of a box as down.
func TestTypingWhatRemovesABox(t *testing.T) {
	root := filepath.Join(t.TempDir(), "by")
	l, b := killedStart(t, root)
	if err := errors.Join(l.removeOwn(b), removeIfThere(l.boxFile("web")), removeIfThere(l.conf())); err != nil {
		t.Fatal(err)
	}
	l.removeEmpty("boxes", "")
	want := testkit.Tree(t, root)
	if err := os.RemoveAll(root); err != nil {
		t.Fatal(err)
	}

	l, b = killedStart(t, root)
	files, err := l.removeCommands(b)
	if err != nil {
		t.Fatal(err)
	}
	shared, err := l.forgetCommands(b, nil)
	if err != nil {
		t.Fatal(err)
	}
	script := strings.Join(append(files, shared...), "\n")
	if out, err := exec.CommandContext(t.Context(), "bash", "-ec", script).CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("typing\n%s\n%v: %s", script, err, out)
	}
	testkit.WantText(t, testkit.Tree(t, root), want)
	testkit.WantText(t, strings.Join(testkit.Names(t, filepath.Join(root, "lib")), " ")+"; "+strings.Join(testkit.Names(t, filepath.Join(root, "boxes")), " "), "shared; web")
}

// The boxes that stay are told of the box that goes, as down tells them. The network shared with them stays.
func TestTypingWhatForgetsABoxAmongOthers(t *testing.T) {
	l := &Launcher{Store: &Store{Dir: t.TempDir()}}
	db, web := boxAt(t, "db", "10.22.0.2", "db", "sbr0"), boxAt(t, "web", "10.22.0.3", "web", "sbr0")
	lines, err := l.forgetCommands(web, []*Box{db})
	if err != nil {
		t.Fatal(err)
	}
	testkit.WantText(t, strings.Join(lines, "\n"), "rm -f "+l.boxFile("web")+"\n"+
		confFile{Path: "hosts", Content: hostsOf(db, []*Box{db})}.command(l.confDir("db")))
}
