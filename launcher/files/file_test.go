package files

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"boxrun/launcher/testkit"
)

func TestAWholeFileIsReplacedIfChanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "apptainer.conf")
	inode := func(content string) os.FileInfo {
		t.Helper()
		if err := (File{Path: path, Content: content, Mode: 0o644, Whole: true}).Write(); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		testkit.WantText(t, string(got), content)
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	first, same, other := inode("a\n"), inode("a\n"), inode("b\n")
	if !os.SameFile(first, same) {
		t.Error("a file with the same content was replaced")
	}
	if os.SameFile(first, other) {
		t.Error("a file was written over in place, where its readers see half of it")
	}
}

// Boxes that start at once write the same files: apptainer.conf, the template of the units.
func TestAFileReplacedByManyAtOnce(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "apptainer.conf")
	long := strings.Repeat("long\n", 1000)
	var writers errgroup.Group
	for i := range 200 {
		writers.Go(func() error {
			return ReplaceFile(path, []byte([]string{long, "short\n"}[i%2]), 0o644)
		})
	}
	if err := writers.Wait(); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != long && string(got) != "short\n" {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("got %v, %v, want the file alone", left, err)
	}
}

// What a person types makes and removes the same files as boxrun.
func TestTypingASet(t *testing.T) {
	set := func(dir string) Set {
		return Set{Files: In(dir, []File{
			Dir("plain"), Dir("it's"), {Path: "secret", Mode: fs.ModeDir | 0o700},
			{Path: "plain/text", Content: "END\n$HOME", Mode: 0o644},
			{Path: "secret/run", Content: "#!/bin/sh\n", Mode: 0o755},
			{Path: "secret/key", Content: "hunter2\n", Mode: 0o600},
			{Path: "it's/link", Link: "a target"},
			{Path: "copy", Content: "END\n", Mode: 0o400, Typed: "install -m 400 <(echo END) " + Quote(dir+"/copy")},
		})}
	}
	removals := func(dir string) []Removal {
		return []Removal{{Paths: []string{dir + "/copy", dir + "/secret"}}, {Paths: []string{dir + "/plain", dir + "/none"}, IfEmpty: true}}
	}
	written, typed := t.TempDir(), t.TempDir()
	bash := func(lines []string) {
		t.Helper()
		script := strings.Join(lines, "\n")
		if out, err := exec.CommandContext(t.Context(), "bash", "-euc", "umask 022\n"+script).CombinedOutput(); err != nil || len(out) > 0 {
			t.Fatalf("typing\n%s\n%v: %s", script, err, out)
		}
	}
	if err := set(written).Write(); err != nil {
		t.Fatal(err)
	}
	bash(set(typed).Commands())
	want := strings.Replace(testkit.Tree(t, written), `"END\n$HOME"`, `"END\n$HOME\n"`, 1) // a here-document ends its last line
	testkit.WantText(t, testkit.Tree(t, typed), want)
	for _, f := range set(typed).Files[3:] {
		if done, err := f.IsWritten(); f.Link == "" && f.Path != typed+"/plain/text" && (!done || err != nil) {
			t.Errorf("%s: got %v, %v, want it to be as written", f.Path, done, err)
		}
	}
	var lines []string
	for i, r := range removals(typed) {
		if err := removals(written)[i].Do(); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, r.Command())
	}
	bash(lines)
	want = strings.Replace(testkit.Tree(t, written), `"END\n$HOME"`, `"END\n$HOME\n"`, 1)
	testkit.WantText(t, testkit.Tree(t, typed), want)
}
