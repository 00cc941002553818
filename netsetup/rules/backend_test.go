package rules

import (
	"os"
	"path/filepath"
	"testing"
)

// Alternatives give each tool a backend of its own.
func TestBackendOfEachTool(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	for tool, program := range map[string]string{"iptables": "xtables-legacy-multi", "ip6tables": "xtables-nft-multi"} {
		if err := os.WriteFile(filepath.Join(dir, program), []byte("#!/bin/false\n"), 0o755); err != nil { //nolint:gosec // a program
			t.Fatal(err)
		}
		if err := os.Symlink(program, filepath.Join(dir, tool)); err != nil {
			t.Fatal(err)
		}
	}
	for tool, want := range map[string]string{"iptables": Legacy, "ip6tables": NFT} {
		if got, err := Backend(tool); got != want || err != nil {
			t.Errorf("%s: got %q, %v, want %q", tool, got, err, want)
		}
	}
	if _, err := Generation("iptables"); err == nil {
		t.Error("rules of the legacy backend have a number")
	}
}
