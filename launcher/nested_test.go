package launcher

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"boxrun/profiles"
)

// Root in a box that can write ROOT/data could make whatever is below it a link to another of root's files.
func TestSecretsBelowWhatTheBoxWrites(t *testing.T) {
	p, path := secretOf(t, "hunter2")
	root, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	makeLinks(t, root, map[string]string{"data/hop": "../pw", "alias": "data", "way": "data/hop", "own": "."})
	if err := os.WriteFile(filepath.Join(root, "data/pw"), []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	const text = `web.toml: secrets.password: "SECRET" lies below "SOURCE" of storage.binds[0], where the box could put a link in its place` +
		" -> name a path that is not below it, or bind that with :ro"
	for _, c := range []struct {
		what, source, secret, want string
		readOnly                   bool
	}{
		{"below", "data", "data/pw", text, false},
		{"below what the box only reads", "data", "data/pw", "", true},
		{"below, by another name", "alias", "data/pw", text, false},
		{"below another name", "data", "alias/pw", text, false},
		{"through a link that is below", "data", "way", text, false},
		{"beside", "data", "pw", "", false},
		{"below the directory above", "own", "data/pw", text, false},
		{"the bound file itself", "pw", "pw", "", false},
	} {
		t.Run(c.what, func(t *testing.T) {
			source, secret := filepath.Join(root, c.source), filepath.Join(root, c.secret)
			p.Secrets["password"] = secret
			p.Storage.Binds = []profiles.Bind{{Source: source, Target: "/mnt", ReadOnly: c.readOnly}}
			_, err := readSecrets(p)
			wantText(t, said(err), strings.NewReplacer("SECRET", secret, "SOURCE", source).Replace(c.want))
		})
	}
}

// makeLinks makes symbolic links, and the directories they are in, below a directory.
func makeLinks(t *testing.T, root string, targets map[string]string) {
	t.Helper()
	for name, target := range targets {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
	}
}
