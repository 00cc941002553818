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

// imageID tells what is at an image's path from what was there at another time, without reading the image. The zero one is
// of an image of which nothing is known: of builtin:hello, or of a box that an older boxrun started.
type imageID struct {
	Size    int64     `json:"size"` // bytes
	ModTime time.Time `json:"mod_time"`
	Inode   uint64    `json:"inode"`
	UUID    string    `json:"uuid,omitempty"` // of a SIF, in hexadecimal; "" for anything else
	Made    time.Time `json:"made,omitzero"`  // of a SIF: when it was built
}

// identify gives the identity of an image, where links lead to it; os.ErrNotExist where there is none.
func identify(path string) (imageID, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO would wait for somebody to write
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

// readSIF reads from a SIF which it is and when it was built; "" from any other file. These are the bytes of a SIF's
// beginning (github.com/apptainer/sif, pkg/sif, type header): a script's first line [32], magic [10], version [3],
// architecture [3], UUID [16], time of its making in seconds (int64).
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

// String gives what two identities of one build have in common.
func (i imageID) String() string {
	if i.UUID != "" {
		return fmt.Sprintf("SIF %s of %s", i.UUID, i.Made.UTC().Format(time.RFC3339))
	}
	return fmt.Sprintf("%d bytes of %s, inode %d", i.Size, i.ModTime.UTC().Format(time.RFC3339Nano), i.Inode)
}

// known says whether anything is known of the image.
func (i imageID) known() bool { return i != imageID{} }

// is says whether two identities are of one build: a SIF stays the same when it is copied or signed.
func (i imageID) is(other imageID) bool { return i.String() == other.String() }

// imageNow says what has become of the image since the box was started from it: "" for nothing, or when nobody can tell. A
// sandbox that was changed inside, and not at its top, is taken for the same.
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

// noteImage notes which image a box is about to be started from.
func (b *Box) noteImage(image string) error {
	if isHello(image) {
		return nil
	}
	id, err := identify(image)
	b.Image = id
	return err
}

// keptImage is where a sandbox of that inode is kept, that a build has replaced under the boxes that run from it.
func keptImage(image string, inode uint64) string {
	dir, name := filepath.Split(image)
	return filepath.Join(dir, fmt.Sprintf(".%s.old-%d", name, inode))
}

// keptFor gives the sandbox that was kept for the box alone, and goes with it; "" where there is none.
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

// dropImage removes the sandbox that was kept for the box.
func (s *Store) dropImage(b *Box) error {
	kept, err := s.keptFor(b)
	if err != nil || kept == "" {
		return err
	}
	return os.RemoveAll(kept)
}

// runFrom says whether a box runs from the sandbox of that inode that was at the path image when it started. Of one that an
// older boxrun started it is not known, and taken to be so.
func runFrom(boxes []*Box, image string, inode uint64) bool {
	return slices.ContainsFunc(boxes, func(b *Box) bool {
		return b.holdsFiles() && (b.Image.Inode == inode || !b.Image.known()) && resolved(b.Profile.Image) == image
	})
}
