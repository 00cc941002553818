package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// "make install" puts boxrun, its completions, its manual pages and its agent where a Debian looks for them, and nothing else.
func TestInstall(t *testing.T) {
	dest := t.TempDir()
	cmd := exec.Command("make", "-C", "..", "install", "DESTDIR="+dest, "PREFIX=/usr")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make install: %v\n%s", err, out)
	}
	for _, want := range []string{
		"bin/boxrun", "share/bash-completion/completions/boxrun", "share/zsh/site-functions/_boxrun",
		"share/fish/vendor_completions.d/boxrun.fish", "share/man/man1/boxrun.1", "share/man/man1/boxrun-host-setup.1",
		"share/man/man5/boxrun.toml.5", "lib/ocf/resource.d/boxrun/box",
	} {
		if info, err := os.Stat(filepath.Join(dest, "usr", want)); err != nil || info.Size() == 0 {
			t.Errorf("%s: got %v, %v", want, info, err)
		}
	}
	out, err := exec.Command(filepath.Join(dest, "usr/bin/boxrun"), "version").Output()
	if err != nil || !strings.HasPrefix(string(out), "boxrun ") {
		t.Errorf("boxrun version: got %q, %v", out, err)
	}
	elsewhere := t.TempDir()
	err = os.MkdirAll(filepath.Join(elsewhere, "etc/fish"), 0o755)
	if out, err := exec.Command("make", "-C", "..", "install", "DESTDIR="+elsewhere, "PREFIX=/usr/local").CombinedOutput(); err != nil {
		t.Fatalf("make install: %v\n%s", err, out)
	}
	if _, missing := os.Stat(filepath.Join(elsewhere, "etc/fish/completions/boxrun.fish")); err != nil || missing != nil {
		t.Errorf("fish, which looks nowhere below /usr/local: %v, %v", err, missing)
	}
	if top, err := filepath.Glob(filepath.Join(dest, "*")); err != nil || len(top) != 1 {
		t.Errorf("got %q, %v, want /usr alone", top, err)
	}
}
