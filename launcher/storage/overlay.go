package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/profiles"
)

// RefuseOverlay refuses an unsuitable overlay. A directory must be writable, or possible to make, on a file system fit for
// an overlay's upper directory; a file must be an ext3 image, on any file system. There must be free space and inodes. No
// other box may have the overlay: Apptainer would let both write (sandboxFormat.lock in pkg/image). No other machine may
// have the overlay, unless force is set. The error is ErrRefused.
func RefuseOverlay(p profiles.Profile, others []*box.Box, force bool) error {
	if p.Storage.Root != "overlay" {
		return nil
	}
	if err := errors.Join(refuseKind(p), refuseFull(p)); err != nil {
		return err
	}
	return errors.Join(RefuseTaken(p, others), RefuseOwned(p, force))
}

// refuseKind refuses an overlay that is not what the profile says, or that no box can write.
func refuseKind(p profiles.Profile) error {
	if err := refuseSizing(p); err != nil {
		return err
	}
	if isImageFile(p.Storage.Overlay) {
		return refuseImage(p)
	}
	return refuseDirectory(p)
}

// refuseDirectory refuses a directory that no box can write, as the overlay or around an image to make.
func refuseDirectory(p profiles.Profile) error {
	overlay := p.Storage.Overlay
	dir := files.Existing(overlay)
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return fault.Refused("name another directory as overlay", "%s: storage.overlay: %q is not a directory", p.File, dir)
	}
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return fault.Refused("name another directory as overlay",
			"%s: storage.overlay: %q cannot be written: %v", p.File, overlay, err)
	}
	var on unix.Statfs_t
	if err := unix.Statfs(dir, &on); err != nil {
		return fmt.Errorf("%s: storage.overlay: looking at the file system of %q: %w", p.File, dir, err)
	}
	if name, ok := unfitUpper(int64(on.Type)); ok && !inImage(p) { //nolint:unconvert // on.Type has another type on 32-bit machines
		return fault.Refused("name a directory on a disk of this host as overlay: ext4, xfs and btrfs will do; or an image there",
			"%s: storage.overlay: %q is on %s, which cannot hold an overlay's changes", p.File, overlay, name)
	}
	return nil
}

// refuseFull refuses an overlay on a file system without free space or inodes.
func refuseFull(p profiles.Profile) error {
	var on unix.Statfs_t
	if err := unix.Statfs(files.Existing(p.Storage.Overlay), &on); err != nil {
		return nil // refuseDirectory and refuseImage have told
	}
	if on.Bavail == 0 || on.Files > 0 && on.Ffree == 0 {
		return fault.Refused("make room there, or name another directory as overlay",
			"%s: storage.overlay: no space is left on the file system of %q", p.File, p.Storage.Overlay)
	}
	return nil
}

// CheckOverlay refuses what RefuseOverlay refuses of an overlay as anybody can see it, whatever boxes there are: a person
// without the right to look learns nothing.
func CheckOverlay(p profiles.Profile) error {
	err := RefuseOwned(p, false)
	if inImage(p) && os.Geteuid() == 0 {
		err = errors.Join(err, refuseKind(p))
	}
	if errors.Is(err, fs.ErrPermission) {
		return nil
	}
	return err
}

// unfitUpper returns the name of a file system refused as an overlay's upper, by the kernel or by Apptainer, because
// data would be lost there. ok is false for any other file system.
func unfitUpper(magic int64) (string, bool) {
	name, ok := map[int64]string{
		unix.NFS_SUPER_MAGIC:       "NFS",
		unix.FUSE_SUPER_MAGIC:      "FUSE",
		unix.OVERLAYFS_SUPER_MAGIC: "an overlay itself",
		unix.CIFS_SUPER_MAGIC:      "SMB",
		unix.SMB2_SUPER_MAGIC:      "SMB",
		unix.V9FS_MAGIC:            "9P",
		unix.ECRYPTFS_SUPER_MAGIC:  "eCryptfs",
		unix.MSDOS_SUPER_MAGIC:     "FAT",
		0x0bd00bd0:                 "Lustre",
		0x47504653:                 "GPFS",
		0xaad7aaea:                 "PanFS",
	}[magic]
	return name, ok
}

// RefuseTaken returns ErrRefused if another box has the profile's overlay now, under whatever path, or an overlay above
// or below: root in either box could put a link in the way of the other.
func RefuseTaken(p profiles.Profile, others []*box.Box) error {
	for _, b := range others {
		theirs, ours := b.Overlay(), p.Storage.Overlay
		if theirs == "" || !HoldsFiles(b) {
			continue
		}
		how, err := together(ours, theirs)
		if err != nil {
			return fmt.Errorf("%s: storage.overlay: looking at what is above %q: %w", p.File, ours, err)
		}
		if how != "" {
			return fault.Refused(fmt.Sprintf("name another directory as overlay, or run \"boxrun down %s\" first", b.Name),
				"%s: storage.overlay: %q %s the overlay of box %q", p.File, ours, how, b.Name)
		}
	}
	return nil
}

// together compares two directory trees, under whatever path: the first "is", "lies below" or "holds" the second; "" if
// they are apart.
func together(a, b string) (string, error) {
	if sameDir(a, b) {
		return "is", nil
	}
	overA, errA := above(a)
	overB, errB := above(b)
	switch {
	case slices.ContainsFunc(overA, func(dir string) bool { return sameDir(dir, b) }):
		return "lies below", nil
	case slices.ContainsFunc(overB, func(dir string) bool { return sameDir(dir, a) }):
		return "holds", nil
	}
	return "", errors.Join(errA, errB)
}

// SharedTrees returns cautions about the overlay of b and each box in others. If either box has a writable bind on,
// above or below the overlay of the other, both may write the same files. This may be intended, but not while both run.
func SharedTrees(b *box.Box, others []*box.Box) ([]fault.Caution, error) {
	var said []fault.Caution
	for _, o := range others {
		if !HoldsFiles(o) {
			continue
		}
		for _, pair := range [][2]*box.Box{{b, o}, {o, b}} {
			more, err := boundOverlay(pair[0], pair[1])
			if err != nil {
				return said, err
			}
			said = append(said, more...)
		}
	}
	return said, nil
}

// boundOverlay returns cautions for writable binds of b sharing a tree with the overlay of owner. What both boxes write
// there is lost, or worse.
func boundOverlay(b, owner *box.Box) ([]fault.Caution, error) {
	var said []fault.Caution
	for _, bind := range b.Profile.Storage.Binds {
		if bind.ReadOnly || owner.Overlay() == "" {
			continue
		}
		how, err := together(bind.Source, owner.Overlay())
		if err != nil {
			return nil, err
		}
		if how != "" {
			said = append(said, fault.Caution{
				Text: fmt.Sprintf("%q, which box %q can write, %s the overlay of box %q: what both write is lost, or worse",
					bind.Source, b.Name, how, owner.Name),
				Hint: fmt.Sprintf("bind it with :ro, or another directory, in %s", b.Profile.File)})
		}
	}
	return said, nil
}

// HoldsFiles reports whether the box may have its files open now. A crashed box has not; a starting box may soon.
func HoldsFiles(b *box.Box) bool { return b.Alive() || b.Phase == box.Starting && b.SameBoot() }

// sameDir reports whether two paths lead to the same directory, or would if the directory were made.
func sameDir(a, b string) bool {
	if files.Resolved(a) == files.Resolved(b) {
		return true
	}
	first, _ := os.Stat(a) // a missing file is the same as no other
	second, _ := os.Stat(b)
	return os.SameFile(first, second) // compares device and inode: either path may be a bind mount
}
