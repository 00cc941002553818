package launcher

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// imageID identifies the image at a path at some time, without reading the image. Comparing two identities tells
// whether the image was replaced. The zero imageID stands for an unknown image: builtin:hello, or the image of a box
// started by an older boxrun.
type imageID struct {
	Size    int64     `json:"size"` // bytes
	ModTime time.Time `json:"mod_time"`
	Inode   uint64    `json:"inode"`
	UUID    string    `json:"uuid,omitempty"` // UUID of a SIF, in hexadecimal; "" for anything else
	Made    time.Time `json:"made,omitzero"`  // build time of a SIF
}

// identify returns the identity of the image at path, after following links. Error: os.ErrNotExist if there is no
// image.
func identify(path string) (imageID, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // O_NONBLOCK: opening a FIFO would wait for a writer
	if err != nil {
		return imageID{}, fmt.Errorf("looking at the image: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return imageID{}, fmt.Errorf("looking at the image: %w", err)
	}
	id := imageID{Size: info.Size(), ModTime: info.ModTime(), Inode: info.Sys().(*syscall.Stat_t).Ino}
	if info.Mode().IsRegular() {
		id.UUID, id.Made, err = readSIF(file)
	}
	return id, err
}

// readSIF reads the UUID and build time of a SIF; uuid is "" for any other file. A SIF begins with
// (github.com/apptainer/sif, pkg/sif, type header): a script's first line [32], magic [10], version [3], architecture
// [3], UUID [16], build time in seconds (int64).
func readSIF(file io.Reader) (uuid string, made time.Time, err error) {
	const magic, id, created, end = 32, 48, 64, 72
	header := make([]byte, end)
	_, err = io.ReadFull(file, header)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "", time.Time{}, nil
	}
	if err != nil {
		return "", time.Time{}, fmt.Errorf("looking at the image: %w", err)
	}
	if !bytes.HasPrefix(header[magic:], []byte("SIF_MAGIC\x00")) {
		return "", time.Time{}, nil
	}
	seconds := binary.LittleEndian.Uint64(header[created:])
	return hex.EncodeToString(header[id:created]), time.Unix(int64(seconds), 0), nil
}

// String returns a text equal for all identities of the same build.
func (i imageID) String() string {
	if i.UUID != "" {
		return fmt.Sprintf("SIF %s of %s", i.UUID, i.Made.UTC().Format(time.RFC3339))
	}
	return fmt.Sprintf("%d bytes of %s, inode %d", i.Size, i.ModTime.UTC().Format(time.RFC3339Nano), i.Inode)
}

// known reports whether anything is known of the image.
func (i imageID) known() bool { return i != imageID{} }

// is reports whether both identities are of the same build. A SIF keeps its identity when copied or signed.
func (i imageID) is(other imageID) bool { return i.String() == other.String() }

// imageNow returns what happened to the image since the box was started: "removed", "replaced", or "" for nothing or
// unknown. A sandbox changed inside, but not in its top directory, counts as unchanged.
func (b *Box) imageNow() string {
	if !b.Image.known() {
		return ""
	}
	now, err := identify(b.Profile.Image)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "removed"
	case err != nil || b.Image.is(now):
		return ""
	}
	return "replaced"
}

// noteImage records the identity of the image before a box starts from the image. builtin:hello has none.
func (b *Box) noteImage(image string) error {
	if isHello(image) {
		return nil
	}
	id, err := identify(image)
	b.Image = id
	return err
}

// keptImage returns where a build keeps a replaced sandbox with the given inode while boxes still run from the sandbox.
func keptImage(image string, inode uint64) string {
	dir, name := filepath.Split(image)
	return filepath.Join(dir, fmt.Sprintf(".%s.old-%d", name, inode))
}

// keptFor returns the sandbox kept for this box alone, to be removed with the box; "" if there is none.
func (s *Store) keptFor(b *Box) (string, error) {
	if !b.Image.known() || b.Image.UUID != "" {
		return "", nil
	}
	image := resolved(b.Profile.Image)
	kept := keptImage(image, b.Image.Inode)
	if _, err := os.Lstat(kept); err != nil {
		return "", ignoreNotExist(err)
	}
	others, err := s.others(b.Name)
	if err != nil || runFrom(others, image, b.Image.Inode) {
		return "", err
	}
	return kept, nil
}

// dropImage removes the sandbox kept for this box alone.
func (s *Store) dropImage(b *Box) error {
	kept, err := s.keptFor(b)
	if err != nil || kept == "" {
		return err
	}
	return os.RemoveAll(kept)
}

// runFrom reports whether any of boxes runs from the sandbox with the given inode, at path image when the box started.
// A box started by an older boxrun has no known image and counts as running from the sandbox.
func runFrom(boxes []*Box, image string, inode uint64) bool {
	return slices.ContainsFunc(boxes, func(b *Box) bool {
		return b.holdsFiles() && (b.Image.Inode == inode || !b.Image.known()) && resolved(b.Profile.Image) == image
	})
}
