package storage

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"boxrun/launcher/testkit"
	"boxrun/profiles"
)

// writeImage writes a superblock as mkfs.ext3 makes it, changed by change.
func writeImage(t *testing.T, change func(superblock []byte)) string {
	t.Helper()
	image := make([]byte, 2*superblock)
	b := image[superblock:]
	binary.LittleEndian.PutUint16(b[atMagic:], magic)
	binary.LittleEndian.PutUint16(b[atState:], stateClean)
	binary.LittleEndian.PutUint32(b[atCompatible:], 0x3c) // journal, attributes, room to grow, indexed directories
	binary.LittleEndian.PutUint32(b[atIncompatible:], 0x2)
	binary.LittleEndian.PutUint32(b[atReadOnly:], 0x3)
	change(b)
	path := filepath.Join(t.TempDir(), "web.img")
	if err := os.WriteFile(path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// An image that Apptainer takes is told from others, and a clean one from one that a crash left.
func TestImagesAsTheirSuperblocksSay(t *testing.T) {
	for what, test := range map[string]struct {
		change        func([]byte)
		refused       string
		recheckWanted bool
	}{
		"clean":              {func([]byte) {}, "", false},
		"mounted":            {func(b []byte) { b[atIncompatible] |= needsRecovery }, "", true},
		"errors":             {func(b []byte) { b[atState] |= stateErrors }, "", true},
		"not clean":          {func(b []byte) { b[atState] = 0 }, "", true},
		"no journal":         {func(b []byte) { b[atCompatible] = 0 }, errNotExt3.Error(), false},
		"ext4":               {func(b []byte) { b[atIncompatible] |= 0x40 }, errNotExt3.Error(), false},
		"metadata checksums": {func(b []byte) { b[atReadOnly+1] |= 0x4 }, errNotExt3.Error(), false},
		"text":               {func(b []byte) { b[atMagic] = 'x' }, errNotExt3.Error(), false},
	} {
		b := markedBox("web", writeImage(t, test.change))
		want := ""
		if test.refused != "" {
			want = b.Profile.File + ": storage.overlay: \"" + b.Overlay() + "\" " + test.refused +
				" -> name a directory, or an image that \"apptainer overlay create\" made"
		}
		testkit.WantText(t, what+": "+said(RefuseOverlay(b.Profile, nil, false)), what+": "+want)
		if got := RecheckOf(b.Profile) != nil; got != test.recheckWanted {
			t.Errorf("%s: check after a crash: got %v, want %v", what, got, test.recheckWanted)
		}
	}
}

// An image that somebody else has locked is refused, unless the box itself has the image.
func TestAnImageInUse(t *testing.T) {
	b := markedBox("web", writeImage(t, func(b []byte) { b[atState] = 0 }))
	if err := RefuseInUse(b.Profile, nil, nil); err != nil {
		t.Errorf("got %v, want the image free", err)
	}
	f, err := os.OpenFile(b.Overlay(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Start: 0, Len: 1024}); err != nil {
		t.Fatal(err)
	}
	want := said(imageInUse(b.Profile))
	testkit.WantText(t, said(RefuseInUse(b.Profile, nil, nil)), want)
	_, err = RecheckOf(b.Profile).Do(t.Context())
	testkit.WantText(t, said(err), want)
	if err := RefuseInUse(b.Profile, startingBox(t, "web", func(*profiles.Profile) {}), nil); err != nil {
		t.Errorf("got %v, want the box to have its own image", err)
	}
}
