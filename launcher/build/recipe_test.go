package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"boxrun/launcher/fault"
	"boxrun/launcher/testkit"
	"boxrun/profiles"
)

func TestWhatADefinitionTakesFromTheHost(t *testing.T) {
	const definition = `Bootstrap: localimage
From: base.sif   
Stage: build

%files
    web.conf /etc/web.conf
    # not this
    "with a blank" /srv
    'site/*'

%post
    From: nothing
    cp web.conf elsewhere

BootStrap: docker
From: debian:13

%Files from build
    /usr/lib/made /usr/lib
%files
	/etc/ssl/site
%environment
    A=b
`
	testkit.WantText(t, strings.Join(hostFiles(definition), "\n"), "web.conf\nwith a blank\nsite/*\n/etc/ssl/site")
	testkit.WantText(t, strings.Join(localImages(definition), "\n"), "base.sif")
}

// The fingerprint changes with everything the build would see, and with nothing else.
func TestFingerprint(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	const definition = "Bootstrap: localimage\nFrom: base\n%files\n  site /etc\n  *.conf /etc\n  missing\n"
	write("web.def", definition)
	write("site/deep/file", "one")
	write("a.conf", "two")
	write("base/etc/os", "three")
	write("other", "four")
	r := recipe{Definition: filepath.Join(dir, "web.def")}
	last := ""
	for _, step := range []struct {
		what    string
		changed bool
		do      func()
	}{
		{"nothing", true, func() {}}, // the first
		{"nothing", false, func() {}},
		{"a file that is not taken", false, func() { write("other", "new") }},
		{"the time of a file", false, func() { do(os.Chtimes(filepath.Join(dir, "a.conf"), time.Now(), time.Unix(1, 0))) }},
		{"a file below a directory", true, func() { write("site/deep/file", "new") }},
		{"the mode of a file", true, func() { do(os.Chmod(filepath.Join(dir, "a.conf"), 0o600)) }},
		{"one more file that a pattern takes", true, func() { write("b.conf", "") }},
		{"a file that was missing", true, func() { write("missing", "") }},
		{"a link that leads nowhere", true, func() { do(os.Symlink("nowhere", filepath.Join(dir, "site/link"))) }},
		{"the base", true, func() { write("base/new", "") }},
		{"the definition", true, func() { write("web.def", definition+"%post\n  true\n") }},
	} {
		step.do()
		now, err := r.fingerprint(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := now != last; got != step.changed {
			t.Errorf("after a change of %s: changed %v, want %v", step.what, got, step.changed)
		}
		last = now
	}
}

// For a built-in recipe the path and the content of each file count. The files are those of the running binary.
func TestFingerprintOfABuiltinRecipe(t *testing.T) {
	sumOf := func(tree fs.FS) string {
		t.Helper()
		list, err := filesIn(tree)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.New()
		sumFiles(sum, list)
		return hex.EncodeToString(sum.Sum(nil))
	}
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	before := fstest.MapFS{"web.def": file("Bootstrap: docker\n"), "root/etc/site": file("one\n")}
	for what, now := range map[string]fstest.MapFS{
		"a script that can be run":        {"web.def": file("Bootstrap: docker\n"), "root/etc/site": file("#!one\n")},
		"a file that is in another place": {"web.def": file("Bootstrap: docker\n"), "etc/site": file("one\n")},
		"one file more":                   {"web.def": file("Bootstrap: docker\n"), "root/etc/site": file("one\n"), "root/empty": file("")},
		"one file less":                   {"web.def": file("Bootstrap: docker\n")},
		"contents exchanged":              {"web.def": file("one\n"), "root/etc/site": file("Bootstrap: docker\n")},
	} {
		if sumOf(now) == sumOf(before) {
			t.Errorf("%s: got the same fingerprint, want another", what)
		}
	}
	if sumOf(maps.Clone(before)) != sumOf(before) {
		t.Error("the same files: got another fingerprint")
	}
	files, err := profiles.Recipe("builtin:coldfront")
	if err != nil {
		t.Fatal(err)
	}
	got, err := recipe{Definition: "builtin:coldfront"}.fingerprint(t.Context())
	if err != nil || got != sumOf(files) {
		t.Errorf("got %s, %v, want %s", got, err, sumOf(files))
	}
}

// An unpacked built-in recipe equals its directory, and its scripts can be run. The printed shell commands make the
// same files, even if a file has lines like the end of a here-document.
func TestUnpack(t *testing.T) {
	list, err := filesIn(fstest.MapFS{
		"web.def":           {Data: []byte("Bootstrap: docker\n")},
		"root/etc/deep/end": {Data: []byte("cat <<END\nEND\nEND_\n$HOME\n")},
		"install.sh":        {Data: []byte("#!/bin/sh\ntrue\n")},
	})
	if err != nil {
		t.Fatal(err)
	}
	const want = `drwxr-xr-x .  ""
-rwxr-xr-x install.sh  "#!/bin/sh\ntrue\n"
drwxr-xr-x root  ""
drwxr-xr-x root/etc  ""
drwxr-xr-x root/etc/deep  ""
-rw-r--r-- root/etc/deep/end  "cat <<END\nEND\nEND_\n$HOME\n"
-rw-r--r-- web.def  "Bootstrap: docker\n"
`
	dir := t.TempDir()
	if err := unpacked(dir, list).Write(); err != nil {
		t.Fatal(err)
	}
	testkit.WantText(t, testkit.Tree(t, dir), want)

	typed := t.TempDir()
	script := strings.Join(unpacked(typed, list).Commands(), "\n")
	if out, err := exec.Command("bash", "-euc", "umask 022\n"+script).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s\nof:\n%s", err, out, script)
	}
	testkit.WantText(t, testkit.Tree(t, typed), want)
}

// Nothing but a regular file of a sensible size is read as a definition: a FIFO would keep status waiting.
func TestADefinitionThatIsNone(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	testkit.Fifo(t, at("pipe.def"))
	testkit.Fifo(t, at("pipe"))
	for name, text := range map[string]string{"huge.def": "", "good.def": "Bootstrap: docker\n%files\n  pipe /\n"} {
		if err := os.WriteFile(at(name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Truncate(at("huge.def"), maxDefinition+1), os.Mkdir(at("dir.def"), 0o755)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"pipe.def": "not a file",
		"dir.def":  "not a file",
		"huge.def": "over 16 MiB, too large for a definition",
	} {
		path := at(name)
		want = fmt.Sprintf("%s: %q", want, path)
		_, err := recipe{Definition: path}.fingerprint(t.Context())
		testkit.WantText(t, fmt.Sprint(err, errors.Is(err, fault.ErrInvalid)), "reading the definition: "+want+" true")
		j := building{profile: profiles.Profile{File: "web.toml"}, recipe: recipe{Definition: path}}
		err = j.refuseDefinition()
		testkit.WantText(t, fmt.Sprint(err, errors.Is(err, fault.ErrInvalid)), "web.toml: build.definition: "+want+" true")
	}
	if _, err := (recipe{Definition: at("good.def")}).fingerprint(t.Context()); err != nil {
		t.Errorf("a FIFO among the files: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := recipe{Definition: at("good.def")}.fingerprint(ctx)
	testkit.WantText(t, fmt.Sprint(err, errors.Is(err, context.Canceled)), "reading the definition: context canceled true")
}
