package box

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"boxrun/launcher/testkit"
	"boxrun/profiles"
)

// sif returns the first bytes of a SIF.
func sif(id byte, made int64) []byte {
	header := make([]byte, 128)
	copy(header, "#!/usr/bin/env run-singularity\n")
	copy(header[32:], "SIF_MAGIC\x0001\x0002\x00")
	header[48] = id
	binary.LittleEndian.PutUint64(header[64:], uint64(made))
	return header
}

func TestIdentity(t *testing.T) {
	path := filepath.Join(t.TempDir(), "web.sif")
	const made = 1_700_000_000
	for _, test := range []struct {
		what string
		make func() error
		want string // the exact identity; "": any identity different from all before
	}{
		{"a SIF", func() error { return os.WriteFile(path, sif(7, made), 0o644) },
			"SIF 07000000000000000000000000000000 of 2023-11-14T22:13:20Z"},
		{"the SIF, signed since", func() error { return os.WriteFile(path, append(sif(7, made), "more"...), 0o644) },
			"SIF 07000000000000000000000000000000 of 2023-11-14T22:13:20Z"},
		{"another SIF", func() error { return os.WriteFile(path, sif(8, made), 0o644) },
			"SIF 08000000000000000000000000000000 of 2023-11-14T22:13:20Z"},
		{"a SIF built anew by a tool that keeps the id", func() error { return os.WriteFile(path, sif(8, made+1), 0o644) },
			"SIF 08000000000000000000000000000000 of 2023-11-14T22:13:21Z"},
		{"a short file", func() error { return os.WriteFile(path, []byte("hsqs"), 0o644) }, ""},
		{"a file of the same size, and later", func() error {
			return errors.Join(os.WriteFile(path, []byte("HSQS"), 0o644), os.Chtimes(path, time.Now(), time.Now().Add(time.Hour)))
		}, ""},
		{"a directory", func() error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o755)) }, ""},
		{"another directory", func() error {
			return errors.Join(os.Rename(path, path+".old"), os.Mkdir(path, 0o755))
		}, ""},
	} {
		before, _ := Identify(path)
		if err := test.make(); err != nil {
			t.Fatal(err)
		}
		id, err := Identify(path)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case test.want != "" && id.String() != test.want:
			t.Errorf("%s: got %s, want %s", test.what, id, test.want)
		case test.want == "" && id.Is(before):
			t.Errorf("%s: got %s as before", test.what, id)
		}
	}
	if _, err := Identify(path + "/missing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing image: got %v, want that it does not exist", err)
	}
}

func TestWhatHasBecomeOfAnImage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "web.sif")
	b := &Box{Profile: profiles.Profile{Image: path}}
	testkit.WantText(t, b.ImageNow(t.Context()), "") // of a box that an older boxrun started
	if err := os.WriteFile(path, sif(1, 1), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := b.NoteImage(path); err != nil {
		t.Fatal(err)
	}
	testkit.WantText(t, b.ImageNow(t.Context()), "")
	if err := os.WriteFile(path, sif(2, 2), 0o644); err != nil {
		t.Fatal(err)
	}
	testkit.WantText(t, b.ImageNow(t.Context()), "replaced")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	testkit.WantText(t, b.ImageNow(t.Context()), "removed")
}
