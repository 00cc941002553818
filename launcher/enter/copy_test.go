package enter

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"boxrun/launcher/testkit"
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
		if err := unpack(stream(t, files...), side{Source: "source", Target: filepath.Join(above, "copy")}); err == nil {
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
		side{Source: "source", Target: filepath.Join(above, "copy")})
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
		if err := unpack(bytes.NewReader(whole[:n]), side{Source: "source", Target: filepath.Join(t.TempDir(), "copy")}); err == nil {
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
		in, name, err := placeFor(test.source, test.target, test.isDir)
		got := filepath.Join(in, name)
		if err != nil {
			got = err.Error()
		}
		if got != test.want && (err == nil || !strings.Contains(got, test.want)) {
			t.Errorf("%s to %s (directory: %v): got %q, want %q", test.source, test.target, test.isDir, got, test.want)
		}
	}
}

// Whoever can write below the source swaps a directory for a link, again and again. The copy never holds what is
// behind the link.
func TestPackFollowsNoLinkOnTheWay(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"src/d", "closed"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	d, link := filepath.Join(dir, "src/d"), filepath.Join(dir, "link")
	err := errors.Join(os.WriteFile(d+"/name", []byte("open"), 0o644), os.WriteFile(filepath.Join(dir, "closed/name"), []byte("secret"), 0o600),
		os.Symlink(filepath.Join(dir, "closed"), link))
	if err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, d, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE)
			}
		}
	}()
	for began := time.Now(); time.Since(began) < 500*time.Millisecond; {
		var out bytes.Buffer
		_ = pack(&out, io.Discard, filepath.Join(dir, "src")) // an error is as good
		if bytes.Contains(out.Bytes(), []byte("secret")) {
			t.Error("the copy holds what is behind the link")
			break
		}
	}
	close(stop)
	<-stopped
}

// Holes stay holes, and data stays where it was.
func TestSparseFiles(t *testing.T) {
	dir := t.TempDir()
	source, target := filepath.Join(dir, "source"), filepath.Join(dir, "target")
	f, err := os.Create(source)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, err1 := f.WriteAt([]byte("begin"), 1<<20)
	_, err2 := f.WriteAt([]byte("middle"), 1<<30)
	var out bytes.Buffer
	err = errors.Join(err1, err2, f.Truncate(1<<40), pack(&out, io.Discard, source), unpack(&out, side{Source: source, Target: target}))
	if err != nil {
		t.Fatal(err)
	}
	var got, want unix.Stat_t
	if err := errors.Join(unix.Stat(target, &got), unix.Stat(source, &want)); err != nil {
		t.Fatal(err)
	}
	if got.Size != want.Size || got.Blocks > want.Blocks+64 {
		t.Errorf("got %d bytes in %d blocks, want %d in %d", got.Size, got.Blocks, want.Size, want.Blocks)
	}
	copied, err := os.Open(target)
	if err != nil {
		t.Fatal(err)
	}
	defer copied.Close()
	for at, text := range map[int64]string{1 << 20: "begin", 1 << 30: "middle"} {
		buf := make([]byte, len(text))
		if _, err := copied.ReadAt(buf, at); err != nil || string(buf) != text {
			t.Errorf("at %d: got %q (%v), want %q", at, buf, err, text)
		}
	}
}

// A copy out of a box brings no programs with rights of their owner, and what was there keeps its owner and mode.
func TestModesOfACopyOutOfABox(t *testing.T) {
	dir := t.TempDir()
	there := filepath.Join(dir, "copy/there")
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "copy"), 0o710), os.WriteFile(there, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	me := tar.Header{Uid: os.Getuid(), Gid: os.Getgid()}
	header := func(name string, kind byte, mode int64) tar.Header {
		return tar.Header{Name: name, Typeflag: kind, Mode: mode, Uid: me.Uid, Gid: me.Gid}
	}
	in := stream(t, header(".", tar.TypeDir, 0o777), header("new", tar.TypeReg, 0o6755), header("there", tar.TypeReg, 0o4777))
	if err := unpack(in, side{Source: "source/.", Target: filepath.Join(dir, "copy"), Plain: true}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, name := range []string{"copy", "copy/new", "copy/there"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, info.Mode().String())
	}
	testkit.WantText(t, strings.Join(got, " "), "drwx--x--- -rwxr-xr-x -rw-------")
}
