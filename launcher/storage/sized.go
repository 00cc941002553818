package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/profiles"
	"boxrun/profiles/amount"
)

// inImage reports whether the overlay of a profile is an image, or will be.
func inImage(p profiles.Profile) bool {
	return p.Storage.Root == "overlay" && (p.Storage.OverlaySize > 0 || isImageFile(p.Storage.Overlay))
}

// A Sizing makes the missing overlay image of a profile with an overlay_size, or grows a smaller image. The work is done
// on a file beside the image, which takes the name of the image in the end: killed at any moment, a Sizing leaves the
// image as before. resize2fs on the image itself would not: what is left of a killed resize2fs may be past mending.
type Sizing struct {
	box   *box.Box
	image string // links resolved
	from  amount.Bytes
}

// SizingOf returns the sizing a start of a box does; nil: none is due.
func SizingOf(b *box.Box) *Sizing {
	size, due := due(b.Profile)
	if !due {
		return nil
	}
	return &Sizing{b, files.Resolved(b.Profile.Storage.Overlay), size}
}

// due returns the size of the overlay image of a profile, 0 for a missing image, and whether the profile wants more.
func due(p profiles.Profile) (size amount.Bytes, due bool) {
	if p.Storage.Root != "overlay" {
		return 0, false
	}
	info, err := os.Stat(p.Storage.Overlay)
	if err != nil { // of a file system that cannot tell nothing is known, and no image is put in the place of another
		return 0, p.Storage.OverlaySize > 0 && errors.Is(err, fs.ErrNotExist)
	}
	size = amount.Bytes(info.Size()) //nolint:gosec // not negative
	return size, size < p.Storage.OverlaySize && info.Mode().IsRegular()
}

// KeptLarger returns the warning for an image larger than the profile's overlay_size; "" for any other. Nothing shrinks
// an image.
func KeptLarger(p profiles.Profile) string {
	size, _ := due(p)
	if p.Storage.OverlaySize == 0 || size <= p.Storage.OverlaySize {
		return ""
	}
	return fmt.Sprintf("storage.overlay_size: %s stays at %s, as nothing shrinks an image to %s",
		p.Storage.Overlay, size, p.Storage.OverlaySize)
}

// beside returns the path of the file that becomes the image.
func beside(image string) string { return image + ".boxrun-new" }

// A step is a command of a Sizing.
type step struct {
	argv []string
	most int // highest exit code of a success
}

// steps returns the commands of the sizing. Blocks of 4 KiB let an image grow to 16 TiB, however small the image is at first.
func (z *Sizing) steps() []step {
	file, size := beside(z.image), z.box.Profile.Storage.OverlaySize.String()
	end := []step{{argv: []string{"sync", file}}, {argv: []string{"mv", "-T", file, z.image}},
		{argv: []string{"sync", filepath.Dir(z.image)}}}
	if z.from == 0 {
		return append([]step{
			{argv: []string{"install", "-m", "600", "/dev/null", file}},
			{argv: []string{"truncate", "-s", size, file}},
			{argv: []string{"mkfs.ext3", "-q", "-F", "-b", "4096", file}},
		}, end...)
	}
	return append([]step{
		{argv: []string{"cp", "-a", "--reflink=auto", "--remove-destination", z.image, file}},
		{argv: []string{"truncate", "-s", size, file}},
		{[]string{"e2fsck", "-f", "-p", file}, 3},
		{argv: []string{"resize2fs", file}},
	}, end...)
}

// tools returns the commands of a sizing that a host may lack: all of the package e2fsprogs.
func tools(from amount.Bytes) []string {
	if from == 0 {
		return []string{"mkfs.ext3"}
	}
	return []string{"e2fsck", "resize2fs"}
}

// Commands returns the bash commands of the sizing.
func (z *Sizing) Commands() []string {
	if z == nil {
		return nil
	}
	var lines []string
	for _, s := range z.steps() {
		line := files.QuoteAll(s.argv)
		if s.most > 0 {
			line += fmt.Sprintf(" || [ $? -le %d ]", s.most)
		}
		lines = append(lines, line)
	}
	return lines
}

// Do makes or grows the image, and returns a line for the user. Meanwhile Do holds Apptainer's lock on a smaller image:
// nobody mounts the image. The record of the box tells of a made image beforehand, so a failed start removes the image.
// Error: ErrRefused for an image in use, or with faults for a person to decide on.
func (z *Sizing) Do(ctx context.Context, s *box.Store) (line string, err error) {
	if z == nil {
		return "", nil
	}
	size := z.box.Profile.Storage.OverlaySize
	line = fmt.Sprintf("made the overlay image %s of %s", z.image, size)
	if z.from == 0 {
		z.box.MadeOverlay = true
		err = s.Save(z.box)
	} else {
		line = fmt.Sprintf("grew the overlay image %s from %s to %s", z.image, z.from, size)
		var unlock func()
		unlock, err = lockImage(z.box.Profile)
		defer unlock()
	}
	for _, step := range z.steps() {
		if err == nil {
			err = z.run(ctx, step)
		}
	}
	if err != nil {
		return "", errors.Join(err, files.IgnoreNotExist(os.Remove(beside(z.image))))
	}
	return line, nil
}

// run runs a command of the sizing.
func (z *Sizing) run(ctx context.Context, s step) error {
	out, err := exec.CommandContext(ctx, s.argv[0], s.argv[1:]...).CombinedOutput()
	code := -1
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		code = exit.ExitCode()
	}
	switch {
	case err == nil || code > 0 && code <= s.most:
		return nil
	case s.argv[0] == "e2fsck" && code > 0:
		return faulty(z.box.Profile, z.image)
	}
	return fmt.Errorf("%s: storage.overlay_size: %s: %w: %s",
		z.box.Profile.File, strings.Join(s.argv, " "), err, bytes.TrimSpace(out))
}

// lockImage takes Apptainer's lock on the image of a profile. unlock is never nil. Error: ErrRefused for an image in use.
func lockImage(p profiles.Profile) (unlock func(), err error) {
	f, err := os.OpenFile(p.Storage.Overlay, os.O_RDWR, 0)
	if err != nil {
		return func() {}, fault.Wrap(p.File+": storage.overlay", err)
	}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		return func() { f.Close() }, imageInUse(p)
	}
	return func() { f.Close() }, nil
}

// refuseSizing refuses an overlay_size that a start cannot give: of a directory, without the tools, without the room. The
// room is asked for at once, though the image is sparse: a box that finds no room later loses what the box writes.
func refuseSizing(p profiles.Profile) error {
	if p.Storage.Root != "overlay" || p.Storage.OverlaySize == 0 {
		return nil
	}
	if info, err := os.Stat(p.Storage.Overlay); err == nil && info.IsDir() {
		return fault.Refused("name a path for the image, or take the size out",
			"%s: storage.overlay_size: is for an image, and %q is a directory", p.File, p.Storage.Overlay)
	}
	size, due := due(p)
	if !due {
		return nil
	}
	for _, tool := range tools(size) {
		if _, err := exec.LookPath(tool); err != nil {
			return fault.Refused("install e2fsprogs", "%s: storage.overlay_size: this host has no %s to make the image with %s",
				p.File, tool, p.Storage.OverlaySize)
		}
	}
	return refuseSmall(p, size)
}

// refuseSmall refuses a disk without the room to make or grow an image. A grown image is copied first. The room of what
// an interrupted growth has left is free: the next one begins anew.
func refuseSmall(p profiles.Profile, size amount.Bytes) error {
	need := p.Storage.OverlaySize - size
	var on unix.Statfs_t
	var image, left unix.Stat_t
	if size > 0 && unix.Stat(p.Storage.Overlay, &image) == nil {
		need += amount.Bytes(image.Blocks) * 512 //nolint:gosec // not negative
	}
	if err := unix.Statfs(files.Existing(p.Storage.Overlay), &on); err != nil {
		return nil // refuseDirectory has told
	}
	free := amount.Bytes(on.Bavail * uint64(on.Bsize)) //nolint:gosec // not negative
	if unix.Stat(beside(p.Storage.Overlay), &left) == nil {
		free += amount.Bytes(left.Blocks) * 512 //nolint:gosec // not negative
	}
	if free >= need {
		return nil
	}
	return fault.Refused("make room there, or ask for less", "%s: storage.overlay_size: %s takes %dM of the file system of %q, where %dM are free",
		p.File, p.Storage.OverlaySize, need>>20, p.Storage.Overlay, free>>20)
}
