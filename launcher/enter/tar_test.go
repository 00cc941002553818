package enter

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"boxrun/launcher/testkit"
)

// What another program gets has no records of boxrun's own: holes are zeros, and names begin with that of the source.
func TestToTar(t *testing.T) {
	source := filepath.Join(t.TempDir(), "src")
	err := errors.Join(os.MkdirAll(source+"/d", 0o755), os.WriteFile(source+"/d/tool", []byte("x"), 0o755),
		os.Chmod(source+"/d/tool", 0o755|os.ModeSetuid), os.Link(source+"/d/tool", source+"/d/twin"),
		os.WriteFile(source+"/holes", nil, 0o600), os.Truncate(source+"/holes", 1<<20))
	var own, out bytes.Buffer
	err = errors.Join(err, pack(&own, io.Discard, source), toTar(&own, &out, side{Source: source, Plain: true}))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	r := tar.NewReader(&out)
	for h, err := r.Next(); err == nil; h, err = r.Next() {
		n, _ := io.Copy(io.Discard, r)
		got[h.Name] = fmt.Sprintf("%c %o %d", h.Typeflag, h.Mode, n)
		if h.Typeflag == tar.TypeLink {
			got[h.Name] = "1"
			got[h.Linkname] += " linked"
		}
		if len(h.PAXRecords) > 1 || h.PAXRecords["BOXRUN.size"] != "" {
			t.Errorf("%s has the records %q", h.Name, h.PAXRecords)
		}
	}
	tool, twin := got["src/d/tool"], got["src/d/twin"] // a directory has no order
	delete(got, "src/d/tool")
	delete(got, "src/d/twin")
	testkit.WantText(t, fmt.Sprintf("%v %s %s", got, max(tool, twin), min(tool, twin)), "map[src/:5 755 0 src/d/:5 755 0 src/holes:0 600 1048576] 1 0 755 1 linked")

	evil := stream(t, tar.Header{Name: ".", Typeflag: tar.TypeDir}, tar.Header{Name: "../x", Typeflag: tar.TypeReg})
	if err := toTar(evil, io.Discard, side{Source: "/x"}); err == nil || !strings.Contains(err.Error(), "leads out") {
		t.Errorf("a name that leads out: got %v", err)
	}
}

// Tars of people have no order, lack directories, begin names with "./" or "/", and hold devices.
func TestFromTar(t *testing.T) {
	target := t.TempDir()
	reg := byte(tar.TypeReg)
	in := stream(t, tar.Header{Name: "./", Typeflag: tar.TypeDir}, tar.Header{Name: "./a/b/one", Typeflag: reg},
		tar.Header{Name: "/abs/two", Typeflag: reg}, tar.Header{Name: "a/twin", Typeflag: tar.TypeLink, Linkname: "./a/b/one"},
		tar.Header{Name: "null", Typeflag: tar.TypeChar})
	var own, notes bytes.Buffer
	if err := errors.Join(fromTar(in, &own, &notes), unpack(&own, side{Source: ".", Target: target})); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a/b/one", "abs/two", "a/twin"} {
		if text, err := os.ReadFile(filepath.Join(target, name)); string(text) != "evil" {
			t.Errorf("%s: got %q, %v", name, text, err)
		}
	}
	testkit.WantText(t, notes.String(), "left out null: it is a device\n")
	err := fromTar(strings.NewReader("no tar at all"), io.Discard, io.Discard)
	if err == nil || errors.Is(err, io.ErrUnexpectedEOF) { // as for an end of the other side
		t.Errorf("no tar: got %v, want an error of its own", err)
	}
	evil := stream(t, tar.Header{Name: "a/../../x", Typeflag: reg})
	own.Reset()
	_ = fromTar(evil, &own, io.Discard)
	if err := unpack(&own, side{Source: ".", Target: target}); err == nil {
		t.Error("a name that leads out: no error")
	}
}

// A stream without its end is not whole, wherever it is cut: between two files as well.
func TestCutTar(t *testing.T) {
	whole := stream(t, tar.Header{Name: ".", Typeflag: tar.TypeDir}, tar.Header{Name: "one", Typeflag: tar.TypeReg},
		tar.Header{Name: "two", Typeflag: tar.TypeReg}).Bytes()
	for length := 0; length < len(whole)-512; length += 256 {
		cut := func() io.Reader { return bytes.NewReader(whole[:length]) }
		out := side{Source: ".", Target: t.TempDir()}
		for name, err := range map[string]error{
			"from a person": fromTar(cut(), io.Discard, io.Discard), "to a person": toTar(cut(), io.Discard, out), "between the sides": unpack(cut(), out),
		} {
			if err == nil {
				t.Errorf("%s, cut after %d of %d bytes: no error", name, length, len(whole))
			}
		}
	}
}

// The kernel's own files say nothing of their size.
func TestPackReadsMadeFiles(t *testing.T) {
	for _, source := range []string{"/proc/self/status", "/sys/kernel/mm/transparent_hugepage/enabled"} {
		want, err := os.ReadFile(source)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		var out bytes.Buffer
		target := filepath.Join(t.TempDir(), "copy")
		if err := errors.Join(err, pack(&out, io.Discard, source), unpack(&out, side{Source: source, Target: target})); err != nil {
			t.Errorf("%s: %v", source, err)
		}
		if got, err := os.ReadFile(target); len(got) < len(want)/2 || len(got) == 0 {
			t.Errorf("%s: got %q, %v", source, got, err)
		}
	}
	if err := pack(io.Discard, io.Discard, "/dev/null"); err == nil || err.Error() != "copying /dev/null: it is a socket or a device" {
		t.Errorf("a device: got %v", err)
	}
	if err := pack(io.Discard, io.Discard, "/proc/self/mem"); err == nil {
		t.Error("a file that cannot be read: no error")
	}
}
