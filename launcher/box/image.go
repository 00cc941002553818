package box

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"boxrun/launcher/files"
)

// ImageID identifies the image at a path at some time, without reading the image. Comparing two identities tells
// whether the image was replaced. The zero ImageID stands for an unknown image: builtin:hello, or the image of a box
// started by an older boxrun.
type ImageID struct {
	Size    int64     `json:"size"` // bytes
	ModTime time.Time `json:"mod_time"`
	Inode   uint64    `json:"inode"`
	UUID    string    `json:"uuid,omitempty"` // UUID of a SIF, in hexadecimal; "" for anything else
	Made    time.Time `json:"made,omitzero"`  // build time of a SIF
}

// Identify returns the identity of the image at path, after following links. Error: os.ErrNotExist if there is no
// image.
func Identify(path string) (ImageID, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // O_NONBLOCK: opening a FIFO would wait for a writer
	if err != nil {
		return ImageID{}, fmt.Errorf("looking at the image: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return ImageID{}, fmt.Errorf("looking at the image: %w", err)
	}
	id := ImageID{Size: info.Size(), ModTime: info.ModTime(), Inode: info.Sys().(*syscall.Stat_t).Ino}
	if info.Mode().IsRegular() {
		id.UUID, id.Made, err = readSIF(file)
	}
	return id, err
}

// readSIF reads the UUID and build time of a SIF; uuid is "" for any other file. A SIF begins with
// (github.com/apptainer/sif, pkg/sif, type header): a script's first line [32], magic [10], version [3], architecture
// [3], UUID [16], build time in seconds (int64).
func readSIF(file io.ReaderAt) (uuid string, made time.Time, err error) {
	const magic, id, created, end = 32, 48, 64, 72
	header := make([]byte, end)
	_, err = file.ReadAt(header, 0)
	switch {
	case errors.Is(err, io.EOF), err == nil && !bytes.HasPrefix(header[magic:], []byte("SIF_MAGIC\x00")):
		return "", time.Time{}, nil
	case err != nil:
		return "", time.Time{}, fmt.Errorf("looking at the image: %w", err)
	}
	seconds := binary.LittleEndian.Uint64(header[created:])
	return hex.EncodeToString(header[id:created]), time.Unix(int64(seconds), 0), nil
}

// String returns a text equal for all identities of the same build.
func (i ImageID) String() string {
	if i.UUID != "" {
		return fmt.Sprintf("SIF %s of %s", i.UUID, i.Made.UTC().Format(time.RFC3339))
	}
	return fmt.Sprintf("%d bytes of %s, inode %d", i.Size, i.ModTime.UTC().Format(time.RFC3339Nano), i.Inode)
}

// Known reports whether anything is known of the image.
func (i ImageID) Known() bool { return i != ImageID{} }

// Is reports whether both identities are of the same build. A SIF keeps its identity when copied or signed.
func (i ImageID) Is(other ImageID) bool { return i.String() == other.String() }

// ImageNow returns what happened to the image since the box was started: "removed", "replaced", or "" for nothing or unknown,
// as of an image on a file system that does not answer, or when ctx ends. A sandbox changed inside, but not in its top
// directory, counts as unchanged.
func (b *Box) ImageNow(ctx context.Context) string {
	if !b.Image.Known() {
		return ""
	}
	now, err := files.Within(ctx, func() (ImageID, error) { return Identify(b.Profile.Image) })
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "removed"
	case err != nil || b.Image.Is(now):
		return ""
	}
	return "replaced"
}

// NoteImage records the identity of the image before a box starts from the image. builtin:hello has none.
func (b *Box) NoteImage(image string) (err error) {
	if !IsHello(image) {
		b.Image, err = Identify(image)
	}
	return err
}

// KeptImage returns where a build keeps a replaced sandbox with the given inode while boxes still run from the sandbox.
func KeptImage(image string, inode uint64) string {
	dir, name := filepath.Split(image)
	return filepath.Join(dir, fmt.Sprintf(".%s.old-%d", name, inode))
}

// KeptImages returns the sandboxes that builds kept beside an image. A file of a similar name is somebody else's.
func KeptImages(image string) ([]string, error) {
	dir, name := filepath.Split(image)
	entries, err := os.ReadDir(dir)
	var paths []string
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if !strings.HasPrefix(e.Name(), "."+name+".old-") {
			continue
		}
		if id, err := Identify(path); err == nil && path == KeptImage(image, id.Inode) {
			paths = append(paths, path)
		}
	}
	return paths, files.IgnoreNotExist(err)
}
