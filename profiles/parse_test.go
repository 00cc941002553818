package profiles

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the expected output of testdata anew")

// TestParseBad compares all that is said of each bad profile with the .want file beside it.
func TestParseBad(t *testing.T) {
	for _, file := range files(t, "testdata/bad/*.toml") {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".toml"), func(t *testing.T) {
			p, err := Parse(filepath.Base(file), read(t, file), "")
			var all Errors
			if !errors.As(err, &all) {
				t.Fatalf("got %v and error %v, want Errors", p, err)
			}
			if !reflect.DeepEqual(p, Profile{}) {
				t.Errorf("got a profile beside the errors: %v", p)
			}
			golden(t, strings.TrimSuffix(file, ".toml")+".want", all.Error()+"\n")
		})
	}
}

// TestParseGood compares what "profile show" prints of each good profile, relative to /profiles, with the .want file
// beside it, and reads it back.
func TestParseGood(t *testing.T) {
	for _, file := range files(t, "testdata/good/*.toml") {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".toml"), func(t *testing.T) {
			p, err := Parse("/profiles/"+filepath.Base(file), read(t, file), "")
			if err != nil {
				t.Fatal(err)
			}
			text := roundTrip(t, p, "")
			golden(t, strings.TrimSuffix(file, ".toml")+".want", text)
		})
	}
}

// roundTrip gives the effective profile as TOML, which must read as the same profile.
func roundTrip(t *testing.T, p Profile, instance string) string {
	t.Helper()
	text, err := p.TOML()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse(p.File, text, instance)
	if err != nil {
		t.Fatalf("reading what was shown: %v\n%s", err, text)
	}
	if !reflect.DeepEqual(again, p) {
		t.Errorf("read back: got %+v, want %+v", again, p)
	}
	if got, want := again.Hash(), p.Hash(); got != want {
		t.Errorf("hash: got %s, want %s", got, want)
	}
	return string(text)
}

// A minimal profile is Default but for its names.
func TestDefault(t *testing.T) {
	got, err := Parse("/profiles/web.toml", []byte(`image = "web.sif"`), "")
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Name, want.Hostname = "web", "web"
	want.File, want.Image = "/profiles/web.toml", "/profiles/web.sif"
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestParseInstance(t *testing.T) {
	text := `
image = "%i.sif"
hostname = "web-%i.example.org"
description = "100%, %%i is %i"
[network]
bridge = "br-%i"
ports = ["80%i:80"]
[storage]
root = "overlay"
binds = ["/srv/%i:/data"]
[systemd]
environment = { NAME = "%i" }
`
	p, err := Parse("/profiles/web.toml", []byte(text), "7")
	if err != nil {
		t.Fatal(err)
	}
	got := []string{p.Name, p.Image, p.Hostname, p.Description, p.Network.Bridge, p.Network.Ports[0].String(),
		p.Storage.Overlay, p.Storage.Binds[0].Source, p.Systemd.Environment["NAME"]}
	want := []string{"web-7", "/profiles/7.sif", "web-7.example.org", "100%, %i is 7", "br-7", "0.0.0.0:807->80/tcp",
		"/var/lib/boxrun/web-7/overlay", "/srv/7", "7"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	roundTrip(t, p, "7")
}

// The paths of a built-in profile, which has no directory, are relative to the current one; a relative file's too.
func TestParseRelative(t *testing.T) {
	t.Chdir(t.TempDir())
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ file, wantFile, wantImage string }{
		{"builtin:web", "builtin:web", dir + "/web.sif"},
		{"web.toml", dir + "/web.toml", dir + "/web.sif"},
		{"a/../b/web.toml", dir + "/b/web.toml", dir + "/b/web.sif"},
		{"/a/web.toml", "/a/web.toml", "/a/web.sif"},
	} {
		p, err := Parse(test.file, []byte(`image = "web.sif"`), "")
		if err != nil {
			t.Errorf("%s: %v", test.file, err)
		}
		if p.File != test.wantFile || p.Image != test.wantImage {
			t.Errorf("%s: got file %s, image %s, want %s, %s", test.file, p.File, p.Image, test.wantFile, test.wantImage)
		}
	}
}

// A built-in profile with absolute paths needs no current directory.
func TestParseWhereTheDirectoryIsGone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := Parse("builtin:web", []byte(`image = "/web.sif"`), ""); err != nil {
		t.Errorf("with an absolute image: %v", err)
	}
	_, err := Parse("builtin:web", []byte(`image = "web.sif"`), "")
	if want := `builtin:web:1: image: must be an absolute path here: getwd: no such file or directory, got "web.sif"`; err == nil || err.Error() != want {
		t.Errorf("with a relative image:\ngot  %v\nwant %s", err, want)
	}
}

// The hash tells apart whatever makes another box, and nothing else.
func TestHash(t *testing.T) {
	base, err := Parse("/a/web.toml", []byte(`image = "/web.sif"`), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		what, file, text string
		same             bool
	}{
		{"the same", "/a/web.toml", `image = "/web.sif"`, true},
		{"in another directory", "/b/web.toml", `image = "/web.sif"`, true},
		{"with a default written out", "/a/web.toml", "image = '/web.sif'\nnetwork.ports = []", true},
		{"with a definition to build from", "/a/web.toml", "image = '/web.sif'\nbuild.definition = 'web.def'", true},
		{"with a port", "/a/web.toml", "image = '/web.sif'\nnetwork.ports = ['80']", false},
		{"with a variable", "/a/web.toml", "image = '/web.sif'\nsystemd.environment.A = ''", false},
		{"with another name", "/a/web2.toml", `image = "/web.sif"`, false},
	} {
		p, err := Parse(test.file, []byte(test.text), "")
		if err != nil {
			t.Fatal(err)
		}
		if same := p.Hash() == base.Hash(); same != test.same {
			t.Errorf("a profile %s: got same %v, want %v", test.what, same, test.same)
		}
	}
	told := base
	told.Systemd.Environment = map[string]string{"PIN": "1234"}
	guess := base
	guess.Systemd.Environment = map[string]string{"PIN": "1235"}
	if told.Hash() != guess.Hash() {
		t.Error("the value of a variable can be guessed by the hash")
	}
	if got, want := len(base.Hash()), 64; got != want {
		t.Errorf("length: got %d, want %d", got, want)
	}
}

func TestErrorsAs(t *testing.T) {
	_, err := Parse("web.toml", []byte("image = ''\nx = 1"), "")
	var first Error
	if !errors.As(err, &first) {
		t.Fatalf("got %T, want an Error in it", err)
	}
	if want := (Error{"web.toml", 1, "image", `must not be empty, got ""`}); first != want {
		t.Errorf("got %+v, want %+v", first, want)
	}
}

func files(t testing.TB, pattern string) []string {
	t.Helper()
	all, err := filepath.Glob(pattern)
	if err != nil || len(all) == 0 {
		t.Fatalf("no files %s: %v", pattern, err)
	}
	return all
}

func read(t testing.TB, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// golden compares got with a file.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := string(read(t, file)); got != want {
		t.Errorf("got:\n%s\nwant (%s):\n%s", got, file, want)
	}
}
