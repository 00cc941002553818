package storage

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/profiles"
)

// isImageFile reports whether an overlay is a file, as "apptainer overlay create" makes it, and no directory.
func isImageFile(overlay string) bool {
	info, err := os.Stat(overlay)
	return err == nil && info.Mode().IsRegular()
}

// errNotExt3 is the error for a file Apptainer does not take for an ext3 image.
var errNotExt3 = errors.New("is a file, but no ext3 image")

// The places in a superblock, in bytes, and the bits there, as in the kernel's fs/ext4/ext4.h.
const (
	superblock     = 1024 // from the beginning of the image; as long
	atMagic        = 0x38
	atState        = 0x3a
	atCompatible   = 0x5c
	atIncompatible = 0x60
	atReadOnly     = 0x64

	magic         = 0xef53
	stateClean    = 1
	stateErrors   = 2
	hasJournal    = 0x4
	needsRecovery = 0x4
	takenIncompat = 0x2 | needsRecovery | 0x10 // file types, recovery, meta block groups: Apptainer refuses others
	takenReadOnly = 0x1 | 0x2 | 0x4            // sparse superblocks, large files, sorted directories
)

// readClean reports whether the file system in an image was unmounted in good order. Error: errNotExt3 for a file
// Apptainer would refuse (CheckExt3Header in pkg/image).
func readClean(f *os.File) (bool, error) {
	var b [superblock]byte
	if _, err := f.ReadAt(b[:], superblock); err != nil {
		return false, errNotExt3 // a short file
	}
	half := func(at int) uint16 { return binary.LittleEndian.Uint16(b[at:]) }
	word := func(at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
	if half(atMagic) != magic || word(atCompatible)&hasJournal == 0 || word(atIncompatible)&^takenIncompat != 0 ||
		word(atReadOnly)&^takenReadOnly != 0 {
		return false, errNotExt3
	}
	state := half(atState)
	return state&stateClean != 0 && state&stateErrors == 0 && word(atIncompatible)&needsRecovery == 0, nil
}

// refuseImage refuses a file without write permission, or of another kind than an ext3 image. Error: ErrRefused.
func refuseImage(p profiles.Profile) error {
	const hint = "name a directory, or an image that \"apptainer overlay create\" made"
	f, err := os.OpenFile(p.Storage.Overlay, os.O_RDWR, 0)
	if err != nil {
		return fault.Refused(hint, "%s: storage.overlay: %q cannot be written: %v", p.File, p.Storage.Overlay, err)
	}
	defer f.Close()
	if _, err = readClean(f); err != nil {
		return fault.Refused(hint, "%s: storage.overlay: %q %v", p.File, p.Storage.Overlay, err)
	}
	return nil
}

// RefuseInUse refuses an image locked by a process: an Apptainer instance started by hand. Apptainer locks an image for
// as long as a loop device has the image (lockSection in pkg/image). own is the box itself, with the image before a
// restart; nil: there is no box. RefuseTaken tells of the image of a box in others. Error: ErrRefused.
func RefuseInUse(p profiles.Profile, own *box.Box, others []*box.Box) error {
	if p.Storage.Root != "overlay" || !isImageFile(p.Storage.Overlay) || own != nil && HoldsFiles(own) ||
		RefuseTaken(p, others) != nil {
		return nil
	}
	f, err := os.Open(p.Storage.Overlay)
	if err != nil {
		return nil // refuseImage has told
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK} // of all bytes
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lock); err != nil || lock.Type == unix.F_UNLCK {
		return fault.Wrap(p.File+": storage.overlay", err)
	}
	return imageInUse(p)
}

func imageInUse(p profiles.Profile) error {
	return fault.Refused("\"apptainer instance list\" and \"losetup -j "+files.Quote(p.Storage.Overlay)+"\" tell who has the image",
		"%s: storage.overlay: %q is in use, and not by a box", p.File, p.Storage.Overlay)
}

// A Recheck is the check of an overlay image by a start after a crash.
type Recheck struct{ p profiles.Profile }

// RecheckOf returns the check of a profile's overlay; nil for a directory, and for an image unmounted in good order.
func RecheckOf(p profiles.Profile) *Recheck {
	if p.Storage.Root != "overlay" || !isImageFile(p.Storage.Overlay) {
		return nil
	}
	f, err := os.Open(p.Storage.Overlay)
	if err != nil {
		return nil // refuseImage has told
	}
	defer f.Close()
	if clean, err := readClean(f); clean || err != nil {
		return nil
	}
	return &Recheck{p}
}

// Commands returns the bash command for the check.
func (r *Recheck) Commands() []string {
	if r == nil {
		return nil
	}
	return []string{"e2fsck -p " + files.Quote(r.p.Storage.Overlay) + " || [ $? -lt 4 ]"}
}

// Do has e2fsck check the image, and returns the answer in lines. Meanwhile Do holds Apptainer's lock: nobody mounts the
// image. A host without e2fsck leaves the image to the kernel: the mount brings the journal up to date. Error: ErrRefused
// for an image in use, or with faults for a person to decide on.
func (r *Recheck) Do(ctx context.Context) ([]string, error) {
	if r == nil {
		return nil, nil
	}
	image := r.p.Storage.Overlay
	unlock, err := lockImage(r.p)
	defer unlock()
	if err != nil {
		return nil, err
	}
	e2fsck, err := exec.LookPath("e2fsck")
	if err != nil {
		return []string{image + " was not unmounted in good order, and this host has no e2fsck to check the image"}, nil
	}
	cmd := exec.CommandContext(ctx, e2fsck, "-p", image)
	out, err := cmd.CombinedOutput()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if err == nil || cmd.ProcessState != nil && cmd.ProcessState.ExitCode() > 0 && cmd.ProcessState.ExitCode() < 4 { // 1: faults were mended
		return lines, nil
	}
	return lines, faulty(r.p, image)
}

// faulty is the refusal of an image with faults for a person to decide on.
func faulty(p profiles.Profile, image string) error {
	return fault.Refused(fmt.Sprintf("run \"e2fsck %s\", which asks what to do", files.Quote(image)),
		"%s: storage.overlay: e2fsck found faults in %q that e2fsck does not mend unasked", p.File, image)
}
