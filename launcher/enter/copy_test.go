package enter

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// stream returns a tar stream of headers with these bodies; all files belong to the user of the test.
func stream(t *testing.T, files ...tar.Header) *bytes.Buffer {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, h := range files {
		h.Uid, h.Gid, h.Mode = os.Getuid(), os.Getgid(), 0o755
		body := ""
		if h.Typeflag == tar.TypeReg {
			body = "evil"
		}
		h.Size = int64(len(body))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &out
}

// The sender may be root in a box, with a boxrun of its own: no stream may lead out of the copy's directory.
func TestUnpackStaysBelowTheTarget(t *testing.T) {
	dir, link, file := byte(tar.TypeDir), byte(tar.TypeSymlink), byte(tar.TypeReg)
	top := tar.Header{Name: ".", Typeflag: dir}
	for name, files := range map[string][]tar.Header{
		"a name with dots":         {top, {Name: "../victim", Typeflag: file}},
		"an absolute name":         {top, {Name: "/victim", Typeflag: file}},
		"through a link up":        {top, {Name: "a", Typeflag: link, Linkname: ".."}, {Name: "a/victim", Typeflag: file}},
		"through an absolute link": {top, {Name: "a", Typeflag: link, Linkname: "ABOVE"}, {Name: "a/victim", Typeflag: file}},
		"over a link to a file":    {top, {Name: "a", Typeflag: link, Linkname: "../victim"}, {Name: "a/.", Typeflag: file}},
		"a directory of a link":    {top, {Name: "a", Typeflag: link, Linkname: ".."}, {Name: "a", Typeflag: dir}},
		"a hard link":              {top, {Name: "a", Typeflag: tar.TypeLink, Linkname: "../victim"}},
		"a device":                 {top, {Name: "a", Typeflag: tar.TypeChar}},
		"two tops":                 {{Name: ".", Typeflag: file}, {Name: "victim", Typeflag: file}},
		"no top":                   {{Name: "victim", Typeflag: file}},
	} {
		above := t.TempDir()
		victim := filepath.Join(above, "victim")
		if err := os.WriteFile(victim, []byte("good"), 0o600); err != nil {
			t.Fatal(err)
		}
		for i := range files {
			files[i].Linkname = strings.ReplaceAll(files[i].Linkname, "ABOVE", above)
		}
		if err := unpack(stream(t, files...), "source", filepath.Join(above, "copy")); err == nil {
			t.Errorf("%s: no error", name)
		}
		if text, err := os.ReadFile(victim); string(text) != "good" {
			t.Errorf("%s: wrote %q outside the copy (%v)", name, text, err)
		}
	}
}

// If a link and a later file in the stream have the same name, the file replaces the link.
func TestUnpackReplacesLinks(t *testing.T) {
	above := t.TempDir()
	victim := filepath.Join(above, "victim")
	if err := os.WriteFile(victim, []byte("good"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := unpack(stream(t, tar.Header{Name: ".", Typeflag: tar.TypeDir},
		tar.Header{Name: "a", Typeflag: tar.TypeSymlink, Linkname: victim}, tar.Header{Name: "a", Typeflag: tar.TypeReg}),
		"source", filepath.Join(above, "copy"))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{victim: "good", filepath.Join(above, "copy/a"): "evil"} {
		if got, err := os.ReadFile(path); string(got) != want {
			t.Errorf("%s holds %q (%v), want %q", path, got, err, want)
		}
	}
}

func TestACutStreamIsAnError(t *testing.T) {
	top, file := tar.Header{Name: ".", Typeflag: tar.TypeDir}, tar.Header{Name: "a", Typeflag: tar.TypeReg}
	whole := stream(t, top, file).Bytes()
	for _, n := range []int{0, 100, 1024 + 2} {
		if err := unpack(bytes.NewReader(whole[:n]), "source", filepath.Join(t.TempDir(), "copy")); err == nil {
			t.Errorf("cut after %d bytes: no error", n)
		}
	}
}

func TestPlaceFor(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for path, text := range map[string]string{"d/x": "", "f": ""} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		source, target string
		isDir          bool
		want           string // or a part of the error
	}{
		{"/s", "d", false, "d/s"},
		{"/s", "d", true, "d/s"},
		{"/s/", "d/", true, "d/s"},
		{"/s/.", "d", true, "d"},
		{"/", "d", true, "d"},
		{"/s", "f", false, "f"},
		{"/s", "f", true, "no directory"},
		{"/s", "f/", false, "no directory"},
		{"/s", "new", false, "new"},
		{"/s", "new", true, "new"},
		{"/s", "new/", true, "new"},
		{"/s", "new/", false, `no directory "new/"`},
		{"/s", "f/new", false, "no directory"},
	} {
		got, err := placeFor(test.source, test.target, test.isDir)
		if err != nil {
			got = err.Error()
		}
		if got != test.want && (err == nil || !strings.Contains(got, test.want)) {
			t.Errorf("%s to %s (directory: %v): got %q, want %q", test.source, test.target, test.isDir, got, test.want)
		}
	}
}
