package storage

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"boxrun/launcher/box"
	"boxrun/launcher/boxtest"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/launcher/testkit"
	"boxrun/profiles"
)

func binds(sources ...string) func(*profiles.Profile) {
	return func(p *profiles.Profile) {
		for _, source := range sources {
			p.Storage.Binds = append(p.Storage.Binds, profiles.Bind{Source: source, Target: "/mnt"})
		}
	}
}

// Only directories below the box's own directory are made. Any other missing path is a mistake in the profile.
func TestMissingBindsAreRefusedUnlessTheyAreTheBoxsOwn(t *testing.T) {
	own := profiles.OwnDir("no-such-box")
	for source, want := range map[string]string{
		own + "/data":        "",
		own + "/data/deeper": "",
		own:                  "no such file or directory",
		own + "er/data":      "no such file or directory",
		"/etc/passwd/data":   "no such file or directory",
		"/var/lib/no-such":   "no such file or directory",
	} {
		err := RefuseBinds(boxtest.Of("no-such-box", binds(source)).Profile)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want %q", source, err, want)
		}
	}
}

// A failed start removes the directories it made for a bind, but not directories there before or with content by then.
func TestOwnDirsOfAFailedStart(t *testing.T) {
	l := &box.Store{Dir: t.TempDir(), Note: func(string) {}}
	root := t.TempDir()
	dirs := []string{filepath.Join(root, "web/etc"), filepath.Join(root, "web/data/deep"), filepath.Join(root, "there")}
	if err := os.Mkdir(dirs[2], 0o700); err != nil {
		t.Fatal(err)
	}
	defer unix.Umask(unix.Umask(0o077))
	for _, test := range []struct {
		put, want string // a file put in the directories meanwhile; the files below root afterwards
	}{
		{"", "drwxr-xr-x .  \"\"\ndrwx------ there  \"\"\n"},
		{"web/data/kept", "drwxr-xr-x .  \"\"\ndrwx------ there  \"\"\ndrwxr-xr-x web  \"\"\ndrwxr-xr-x web/data  \"\"\n-rw------- web/data/kept  \"\"\n"},
	} {
		b := boxtest.Of("web", func(*profiles.Profile) {})
		if err := makeDirs(l, b, Dirs{Key: "storage.binds", Paths: dirs}); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(dirs[1]); err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("got %v %v, want mode 755", info, err)
		}
		if test.put != "" {
			if err := os.WriteFile(filepath.Join(root, test.put), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		saved, err := l.Load("web")
		if err != nil {
			t.Fatal(err)
		}
		if err := removeMade(saved); err != nil {
			t.Error(err)
		}
		testkit.WantText(t, testkit.Tree(t, root), test.want)
	}
}

// makeDirs makes directories as a start of the box.
func makeDirs(s *box.Store, b *box.Box, dirs ...Dirs) error {
	return fault.Each(dirs, func(d Dirs) error { return d.Make(s, b) })
}

// removeMade removes what a failed start of the box made.
func removeMade(b *box.Box) error {
	return fault.Each(Made(b), files.Removal.Do)
}

// Other failing starts remove the directory shared by boxes while the directory is empty. A start then makes the
// directory again.
func TestOwnDirsWhileOtherStartsFail(t *testing.T) {
	l := &box.Store{Dir: t.TempDir(), Note: func(string) {}}
	shared := filepath.Join(t.TempDir(), "boxrun")
	ctx, cancel := context.WithCancel(t.Context())
	var others sync.WaitGroup
	others.Go(func() {
		for ctx.Err() == nil {
			made := files.MissingDirs([]string{shared})
			if err := errors.Join(files.Mkdirs(made), files.Unmade(made).Do()); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Error(err)
			}
		}
	})
	for range 300 {
		b := boxtest.Of("web", func(*profiles.Profile) {})
		dir := filepath.Join(shared, "web/data")
		if err := makeDirs(l, b, Dirs{Key: "storage.binds", Paths: []string{dir}}); err != nil || !files.Exists(dir) {
			t.Fatalf("got %v, there %v, want no error and true", err, files.Exists(dir))
		}
		if err := removeMade(b); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	others.Wait()
	if err := files.Unmade([]string{shared}).Do(); err != nil || files.Exists(shared) {
		t.Errorf("got %v, there %v, want no error and false", err, files.Exists(shared))
	}
}

// A directory that can never be made is an error, and not tried for ever.
func TestOwnDirsBelowALinkThatLeadsNowhere(t *testing.T) {
	l := &box.Store{Dir: t.TempDir(), Note: func(string) {}}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("nowhere", link); err != nil {
		t.Fatal(err)
	}
	b := boxtest.Of("web", func(*profiles.Profile) {})
	testkit.WantText(t, said(makeDirs(l, b, Dirs{Key: "storage.binds", Paths: []string{link + "/web"}})),
		b.Profile.File+": storage.binds: mkdir "+link+"/web: no such file or directory -> name another directory")
}
