package profiles

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"boxrun/profiles/amount"
)

// decode reads [storage].
func (st *Storage) decode(s *section) {
	take(s, "root", &st.Root, text(choice("tmpfs", "read-only", "overlay")))
	take(s, "overlay", &st.Overlay, text(optional(s.doc.overlay)))
	take(s, "overlay_size", &st.OverlaySize, text(overlaySize))
	take(s, "binds", &st.Binds, texts(s.doc.bind))
	if st.Overlay != "" && st.Root != "overlay" && s.valid("root", "overlay") {
		s.refuse("overlay", "is for root = \"overlay\", which here is %q", st.Root)
	}
	if st.OverlaySize > 0 && st.Root != "overlay" && s.valid("root", "overlay_size") {
		s.refuse("overlay_size", "is for root = \"overlay\", which here is %q", st.Root)
	}
	st.checkTargets(s)
}

// overlaySize reads the size of an image: Apptainer makes none below 64M, and ext3 has room for 16T.
func overlaySize(s string) (amount.Bytes, error) {
	size, err := amount.Parse(s)
	if err == nil && size != 0 && (size < 64<<20 || size >= 16<<40 || size%(1<<20) != 0) {
		err = errors.New("must be 64M or more, less than 16T, and a multiple of 1M")
	}
	return size, err
}

// overlay reads the directory of an overlay. Apptainer's --overlay is a comma-separated list of path:options in CSV.
func (d *document) overlay(s string) (string, error) {
	if strings.ContainsAny(s, `,:"`) {
		return "", errors.New("must not have a comma, colon or quote, which Apptainer's --overlay gives a meaning")
	}
	path, err := d.path(s)
	if err == nil && path == "/" {
		err = errors.New("must not be the root directory")
	}
	return path, err
}

// bind reads SOURCE:TARGET[:ro|rw]. Apptainer's --bind also splits at commas, and a backslash is an escape there.
func (d *document) bind(s string) (Bind, error) {
	if strings.ContainsAny(s, `,\`) {
		return Bind{}, errors.New("must not have a comma or backslash, which Apptainer's --bind gives a meaning")
	}
	parts := strings.Split(s, ":")
	if len(parts) != 2 && len(parts) != 3 {
		return Bind{}, errors.New("must be SOURCE:TARGET[:ro|rw]")
	}
	readOnly := false
	if len(parts) == 3 {
		mode, err := choice("ro", "rw")(parts[2])
		if err != nil {
			return Bind{}, fmt.Errorf("the part behind the second colon %w", err)
		}
		readOnly = mode == "ro"
	}
	source, err := d.path(parts[0])
	if err != nil {
		return Bind{}, fmt.Errorf("the source %w", err)
	}
	target, err := bindTarget(parts[1], source)
	return Bind{Source: source, Target: target, ReadOnly: readOnly}, err
}

// bindTarget reads the path inside the box. Paths where a bind would be invisible or would break the box are refused.
func bindTarget(s, source string) (string, error) {
	if !filepath.IsAbs(s) || strings.ContainsAny(s, "\n\t") {
		return "", errors.New("the target must be an absolute path")
	}
	target := filepath.Clean(s)
	switch {
	case target == "/":
		return "", errors.New("the target must not be the root directory, which is the image")
	case slices.Contains(strings.Split(s, "/"), ".."):
		return "", fmt.Errorf("the target must be written without .., as %s", target)
	case below(target, "/dev") && target != "/dev" && target == source:
		return target, nil // a device: Apptainer adds it to the box's own /dev, under the same name only
	}
	for _, taken := range takenTargets() {
		where := taken.path
		if taken.below {
			where = "in " + where
		}
		if target == taken.path || taken.below && below(target, taken.path) {
			return "", fmt.Errorf("the target must not be %s, %s", where, taken.why)
		}
	}
	return target, nil
}

// A takenTarget is a path in the box where a bind is invisible or does harm.
type takenTarget struct {
	path  string
	below bool // everything below is taken too
	why   string
}

// takenTargets lists observations with Apptainer 1.4.5 and a box of Debian 12. Binds below /run are hidden. Binds below
// /tmp are visible and kept, but a bind on /tmp itself loses its files on the host (tmpfiles.d has "D /tmp").
func takenTargets() []takenTarget {
	return []takenTarget{
		{"/run", true, "where systemd mounts a tmpfs that hides it"},
		{"/var/run", true, "a link to /run, where systemd mounts a tmpfs that hides it"},
		{"/proc", true, "which is the kernel's"},
		{"/sys", true, "which is the kernel's"},
		{"/dev", true, "which is the box's own, but for a device under its own name"},
		{"/tmp", false, "which systemd empties when the box boots: take a directory below"},
		{"/var/tmp", false, "which systemd clears of old files: take a directory below"},
		{"/sbin/init", false, "where boxrun starts a box, to become the image's own init"},
		{"/usr/sbin/init", false, "where boxrun starts a box, to become the image's own init"},
		{"/lib/systemd/systemd", false, "to which /sbin/init leads, where boxrun starts a box"},
		{"/usr/lib/systemd/systemd", false, "to which /sbin/init leads, where boxrun starts a box"},
		{"/etc/resolv.conf", false, "which boxrun writes: set network.dns"},
		{"/etc/systemd/system.control", true, "which boxrun writes: set systemd.mask"},
		{"/etc/systemd", false, "in which boxrun writes: take a file or directory in it"},
		{"/etc", false, "in which boxrun writes: take a file or directory in it"},
	}
}

// below reports whether path is dir or inside dir. Both must be clean.
func below(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

// Over returns the bind that a path of the box lies in: the nearest, of several. ok is false for a path in none. The path
// must be clean.
func (st Storage) Over(path string) (over Bind, ok bool) {
	for _, b := range st.Binds {
		if below(path, b.Target) && len(b.Target) > len(over.Target) {
			over, ok = b, true
		}
	}
	return over, ok
}

// checkTargets refuses binds that hide each other. Binds are mounted in their order.
func (st *Storage) checkTargets(s *section) {
	for i, b := range st.Binds {
		for j, earlier := range st.Binds[:i] {
			if b.Target == "" || earlier.Target == "" {
				continue // refused already
			}
			if b.Target == earlier.Target {
				s.refuse(at("binds", i), "target %s is taken by binds[%d]", b.Target, j)
				break
			}
			if below(earlier.Target, b.Target) {
				s.refuse(at("binds", i), "target %s hides that of binds[%d]: put it before", b.Target, j)
				break
			}
		}
	}
}

// MarshalTOML returns the bind as profiles write binds.
func (b Bind) MarshalTOML() ([]byte, error) {
	mode := "rw"
	if b.ReadOnly {
		mode = "ro"
	}
	return []byte(strconv.Quote(b.Source + ":" + b.Target + ":" + mode)), nil
}
