package profiles

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// written gives a search path with these profiles, NAME: depends_on.
func written(t *testing.T, depends map[string]string) Search {
	t.Helper()
	dir := t.TempDir()
	for name, list := range depends {
		text := "image = \"a.sif\"\n" + list + "\n"
		if err := os.WriteFile(filepath.Join(dir, name+".toml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return Search{Dirs: []string{dir}}
}

func TestDependenciesComeBeforeWhatNeedsThem(t *testing.T) {
	s := written(t, map[string]string{
		"web": `depends_on = ["app", "db", "cache@1"]`, "app": `depends_on = ["db"]`, "db": "", "cache": `description = "%i"`,
	})
	web, err := s.Load("web")
	if err != nil {
		t.Fatal(err)
	}
	all, err := s.Dependencies(web)
	var names []string
	for _, p := range all {
		names = append(names, p.Name)
	}
	if got, want := strings.Join(names, " "), "db app cache-1"; err != nil || got != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
}

func TestDependenciesThatCannotBeHad(t *testing.T) {
	s := written(t, map[string]string{
		"web": `depends_on = ["app"]`, "app": `depends_on = ["db"]`, "db": `depends_on = ["web"]`,
		"lost": `depends_on = ["hello", "nosuch"]`, "ill": `depends_on = ["bad"]`, "bad": `colour = "red"`,
	})
	for name, want := range map[string]string{
		"web":  "db.toml: depends_on[0]: goes in a circle: web needs app needs db needs web",
		"lost": `lost.toml: depends_on[1]: no such profile: "nosuch"`,
		"ill":  "ill.toml: depends_on[0]: " + filepath.Join(s.Dirs[0], "bad.toml") + ":2: colour: unknown key",
	} {
		p, err := s.Load(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Dependencies(p); err == nil || !strings.HasPrefix(err.Error(), s.Dirs[0]+"/"+want) {
			t.Errorf("%s: got %v, want %s", name, err, want)
		}
	}
}
