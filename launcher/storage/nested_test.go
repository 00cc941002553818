package storage

import (
	"path/filepath"
	"strings"
	"testing"

	"boxrun/launcher/boxtest"
	"boxrun/launcher/fault"
	"boxrun/launcher/testkit"
	"boxrun/profiles"
)

func TestBindsBelowWhatTheBoxWrites(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	testkit.Links(t, root, map[string]string{"data/sub/deep/link": "/srv", "alias": "data", "database/link": "../other", "other/x": "y"})
	below := func(key, path, dir, of, hint string) string {
		return "web.toml: " + key + `: "ROOT/` + path + `" lies below "ROOT/` + dir + `" of ` + of +
			", where the box could put a link in its place -> name a path that is not below it" + hint
	}
	for _, c := range []struct{ what, binds, overlay, want string }{
		{"siblings", "data/sub data/sub/../../database other", "other2", ""},
		{"below", "data data/sub/deep", "", below("storage.binds[1]", "data/sub/deep", "data", "storage.binds[0]", ", or bind that with :ro")},
		{"below one that comes after", "data/sub data", "", below("storage.binds[0]", "data/sub", "data", "storage.binds[1]", ", or bind that with :ro")},
		{"below another name", "alias data/sub", "", below("storage.binds[1]", "data/sub", "alias", "storage.binds[0]", ", or bind that with :ro")},
		{"through a link that is below", "data data/sub/deep/link", "",
			below("storage.binds[1]", "data/sub/deep/link", "data", "storage.binds[0]", ", or bind that with :ro")},
		{"below what the box only reads", "data:ro data/sub", "", ""},
		{"below what the box reads and writes", "data:ro data data/sub", "",
			below("storage.binds[2]", "data/sub", "data", "storage.binds[1]", ", or bind that with :ro")},
		{"the same twice", "data data alias data:ro", "", ""},
		{"below the overlay", "data/sub", "data", below("storage.binds[0]", "data/sub", "data", "storage.overlay", "")},
		{"an overlay below", "data", "data/new/overlay", below("storage.overlay", "data/new/overlay", "data", "storage.binds[0]", ", or bind that with :ro")},
	} {
		t.Run(c.what, func(t *testing.T) {
			p := profiles.Profile{File: "web.toml", Name: "web"}
			for _, bind := range strings.Fields(c.binds) {
				source, ro := strings.CutSuffix(bind, ":ro")
				p.Storage.Binds = append(p.Storage.Binds, profiles.Bind{Source: filepath.Join(root, source), Target: "/mnt", ReadOnly: ro})
			}
			if c.overlay != "" {
				p.Storage.Root, p.Storage.Overlay = "overlay", filepath.Join(root, c.overlay)
			}
			testkit.WantText(t, said(RefuseBinds(p)), strings.ReplaceAll(c.want, "ROOT", root))
		})
	}
	own := profiles.OwnDir("no-such-box")
	p := boxtest.Of("no-such-box", binds(own+"/data", own+"/data/deeper", own+"/etc")).Profile
	testkit.WantText(t, said(RefuseBinds(p)), `/etc/boxrun/profiles/no-such-box.toml: storage.binds[1]: "`+own+`/data/deeper" lies below "`+own+
		`/data" of storage.binds[0], where the box could put a link in its place -> name a path that is not below it, or bind that with :ro`)
}

// said returns an error with its hint; "" for none.
func said(err error) string {
	if err == nil {
		return ""
	}
	return err.Error() + " -> " + fault.HintOf(err)
}
