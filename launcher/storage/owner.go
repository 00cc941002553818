package storage

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/launcher/process"
	"boxrun/profiles"
)

// An Owner is the mark on an overlay: the machine and the box with the overlay. Several machines may see the same
// overlay, on a shared file system, and the records of boxes are each machine's own. The mark is made before the
// box starts, and removed when the box is down. A mark of this machine stops no start: here the records tell who has the
// overlay. A mark of another machine stops a start, until a person who knows the machine to be off says --force.
type Owner struct {
	Machine string    `json:"machine"` // from the machine's id and name: see thisMachine
	Boot    string    `json:"boot"`    // of the machine: see thisBoot; "": unknown
	Host    string    `json:"host"`    // the machine's name, for a person
	Box     string    `json:"box"`
	Since   time.Time `json:"since"`
}

// ownerName ends the path of a mark: OVERLAY/boxrun-owner.json for a directory, IMAGE.boxrun-owner.json for an image.
const ownerName = "boxrun-owner.json"

// ownerFile returns the path of the mark on an overlay of the profile.
func ownerFile(p profiles.Profile) string {
	overlay := files.Resolved(p.Storage.Overlay)
	if inImage(p) {
		return overlay + "." + ownerName
	}
	return filepath.Join(overlay, ownerName)
}

// unpublished returns the path of the mark before others see the mark: another on each machine. A killed start leaves the
// file behind, and the clearing of the box removes it.
func unpublished(mark string, o Owner) string { return mark + "." + o.Machine[:8] }

// thisMachine returns an id of the machine, without telling the id in /etc/machine-id. Machines made from the same disk
// image may have an id in common, and differ in their names.
func thisMachine() (id, host string, err error) {
	if host, err = os.Hostname(); err != nil {
		return "", "", err
	}
	machine, err := os.ReadFile("/etc/machine-id") // without an id the name alone counts
	sum := sha256.Sum256(fmt.Appendf(nil, "boxrun owner %s %s", machine, host))
	return hex.EncodeToString(sum[:16]), host, files.IgnoreNotExist(err)
}

// thisBoot returns an id of the time since the machine has booted, in which the machine may get another id or name. Containers
// of one kernel, as machines, differ in their first processes. "": unknown, as for all users but root.
func thisBoot() string {
	boot, err := process.BootID()
	first, firstErr := os.Readlink("/proc/1/ns/pid")
	if err != nil || firstErr != nil {
		return ""
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "boxrun owner %s %s", boot, first))
	return hex.EncodeToString(sum[:16])
}

// isOf reports whether a mark is of the machine that made the mark mine just now, whatever the machine was called before.
func (o Owner) isOf(mine Owner) bool {
	return o.Machine == mine.Machine || o.Boot != "" && o.Boot == mine.Boot
}

// ownerOf returns the mark made by a start of the box.
func ownerOf(b *box.Box) (Owner, error) {
	id, host, err := thisMachine()
	return Owner{Machine: id, Boot: thisBoot(), Host: host, Box: b.Name, Since: b.Started.UTC().Truncate(time.Second)}, err
}

// readOwner reads a mark. Error: fs.ErrNotExist without a mark.
func readOwner(mark string) (o Owner, err error) {
	if _, err := os.Lstat(mark); err != nil {
		return o, err
	}
	text, err := files.ReadSmall(mark, 1<<16)
	if err != nil {
		return o, err
	}
	if err := json.Unmarshal([]byte(text), &o); err != nil || o.Machine == "" {
		return o, errUnclear
	}
	return o, nil
}

// errUnclear is the error for a mark without a machine.
var errUnclear = errors.New("names no machine")

// RefuseOwned refuses an overlay with the mark of another machine. force lets any mark pass. Error: ErrRefused.
func RefuseOwned(p profiles.Profile, force bool) error {
	if p.Storage.Root != "overlay" || force {
		return nil
	}
	mark := ownerFile(p)
	o, err := readOwner(mark)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, errUnclear):
		return fault.Refused(forceHint(p, "if no other machine has the overlay"),
			"%s: storage.overlay: %q, the mark of who has the overlay, %v", p.File, mark, err)
	case err != nil:
		return fmt.Errorf("%s: storage.overlay: %w", p.File, err)
	}
	if id, _, err := thisMachine(); err != nil || o.isOf(Owner{Machine: id, Boot: thisBoot()}) {
		return err
	}
	return fault.Refused(fmt.Sprintf("run \"boxrun down %s\" on %s; %s", o.Box, o.Host, forceHint(p, "if that machine is off for good")),
		"%s: storage.overlay: %q is the overlay of box %q on the machine %s since %s",
		p.File, p.Storage.Overlay, o.Box, o.Host, o.Since.Local().Format(time.DateTime))
}

// forceHint returns the advice to take an overlay over.
func forceHint(p profiles.Profile, when string) string {
	return fmt.Sprintf("%s, \"boxrun up --force %s\" takes the overlay over", when, p.Name)
}

// A Claim is the mark made by a start.
type Claim struct {
	box   *box.Box
	force bool // replaces the mark of another machine
}

// ClaimOf returns the claim of a box; nil for a box without an overlay.
func ClaimOf(b *box.Box, force bool) *Claim {
	if b.Overlay() == "" {
		return nil
	}
	return &Claim{b, force}
}

// Make makes the mark, whole or not at all. Of two machines coming at once, the first succeeds. The caller has saved
// the record of the box: another box of this machine with the overlay has been refused by then. Error: ErrRefused for an
// overlay of another machine.
func (c *Claim) Make() error {
	if c == nil {
		return nil
	}
	mark, o, content, err := c.mark()
	if err != nil {
		return err
	}
	file := unpublished(mark, o)
	if err := writeThrough(file, content); err != nil {
		return fault.Wrap(c.box.Profile.File+": storage.overlay", err)
	}
	defer os.Remove(file)
	err = publish(file, mark)
	if errors.Is(err, fs.ErrExist) {
		if err := RefuseOwned(c.box.Profile, c.force); err != nil {
			return err
		}
		err = os.Rename(file, mark)
	}
	return fault.Wrap(c.box.Profile.File+": storage.overlay", err)
}

// publish gives a file the name mark. Error: fs.ErrExist if the name is taken.
func publish(file, mark string) error {
	err := os.Link(file, mark)
	if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	f, err := os.OpenFile(mark, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // a file system without links
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Rename(file, mark))
}

// mark returns the path and the content of the mark.
func (c *Claim) mark() (path string, o Owner, content []byte, err error) {
	if o, err = ownerOf(c.box); err != nil {
		return "", o, nil, err
	}
	content, err = json.Marshal(o)
	return ownerFile(c.box.Profile), o, append(content, '\n'), err
}

// Commands returns the bash commands to make the mark. The shell replaces no existing file, unless the claim replaces the
// mark.
func (c *Claim) Commands() ([]string, error) {
	if c == nil {
		return nil, nil
	}
	mark, _, content, err := c.mark()
	if err != nil {
		return nil, err
	}
	command := fmt.Sprintf("printf '%%s\\n' %s > %s", files.Quote(string(content[:len(content)-1])), files.Quote(mark))
	if !files.Exists(mark) {
		command = "(set -C; " + command + ")"
	}
	return []string{command}, nil
}

// writeThrough writes a file, and waits until the disk has the content: a mark cut short by a power loss would stop the
// next start.
func writeThrough(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}

// Marks returns the removal of the mark of a box, and of what a killed start left of the mark. A later mark, of another
// machine or box, stays.
func Marks(b *box.Box) ([]files.Removal, error) {
	if b.Overlay() == "" {
		return nil, nil
	}
	mine, err := ownerOf(b)
	if err != nil {
		return nil, err
	}
	mark := ownerFile(b.Profile)
	var left []string
	if files.Exists(unpublished(mark, mine)) {
		left = append(left, unpublished(mark, mine))
	}
	if o, err := readOwner(mark); err == nil && o.isOf(mine) && o.Box == b.Name {
		left = append(left, mark)
	}
	if len(left) == 0 {
		return nil, nil
	}
	return []files.Removal{{Paths: left}}, nil
}

// TakenOver returns who has the overlay of a running box beside the box: a machine took the overlay over. ok is false
// while the mark is the box's own, or missing.
func TakenOver(b *box.Box) (o Owner, ok bool) {
	mine, err := ownerOf(b)
	if err != nil || b.Overlay() == "" {
		return o, false
	}
	o, err = readOwner(ownerFile(b.Profile))
	return o, err == nil && (!o.isOf(mine) || o.Box != b.Name)
}
