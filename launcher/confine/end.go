package confine

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/coreos/go-systemd/v22/unit"

	"boxrun/launcher/files"
)

// At its end a systemd waits for what a box can do without: a program for each mount to unmount, a watch of the kernel's to
// end for each unit that watches a directory, and a program that tells systemd to halt. These take half the time of a stop.

// runtimeUnits is where systemd looks for units and drop-ins of this boot, behind the administrator's own.
const runtimeUnits = "/run/systemd/system"

// shortenEnd has the box's systemd leave out of its end what the end of the box brings by itself. An image without systemd
// has no /run of boxrun's.
func shortenEnd() error {
	if !files.Exists("/run/systemd") {
		return nil
	}
	return errors.Join(leaveMounted(), askNobody(), haltAtOnce())
}

// leaveMounted keeps systemd from unmounting what is mounted before systemd begins, and the credentials of services, which
// systemd mounts itself. The mounts end with the box, and unmounting them writes nothing to any disk. What is mounted later
// is unmounted as on a machine.
func leaveMounted() error {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	for _, name := range append(mountUnits(string(mounts)), "run-credentials-.mount") {
		err = errors.Join(err, dropIn(name, "[Unit]\nDefaultDependencies=no\n"))
	}
	return err
}

// dropIn writes a file with more settings for a unit. Those of an administrator's drop-ins come after them.
func dropIn(unit, text string) error {
	dir := filepath.Join(runtimeUnits, unit+".d")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "00-boxrun.conf"), []byte("# Written by boxrun, for this boot.\n"+text), 0o644)
}

// mountUnits returns the names of the units that systemd makes of the lines of a mountinfo, and unmounts at its end. Mounts
// above each other have one unit. A path too long for the name of a unit has none.
func mountUnits(mountinfo string) []string {
	const most = 255 - len(".d")
	unquote := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`) // as in proc_pid_mounts(5)
	var names []string
	known := map[string]bool{}
	for line := range strings.Lines(mountinfo) {
		path := unquote.Replace(strings.Fields(line)[4])
		name := unit.UnitNamePathEscape(path) + ".mount"
		if !known[name] && !stays(path) && len(name) <= most {
			names = append(names, name)
		}
		known[name] = true
	}
	return names
}

// stays reports whether systemd itself leaves a mount where it is: systemd's function fstab_is_extrinsic lists these paths,
// but for /run, which is never unmounted either.
func stays(path string) bool {
	switch path {
	case "/", "/usr", "/etc", "/run":
		return true
	}
	for _, dir := range []string{"/proc", "/sys", "/dev"} {
		if path == dir || strings.HasPrefix(path, dir+"/") {
			return true
		}
	}
	return false
}

// askNobody masks units that wait for passwords to ask for, where nobody could be asked: at a console that the box lacks,
// and at terminals of people who are logged in, in an image without sshd. "systemctl" and systemd-tty-ask-password-agent
// still ask. An administrator's own unit of the name stays.
func askNobody() error {
	var err error
	for unit, terminals := range map[string][]string{
		"systemd-ask-password-console.path": {"/dev/console"},
		"systemd-ask-password-wall.path":    readers()["systemd-ssh-generator"],
	} {
		if !isAnyThere("/", append(terminals, filepath.Join("/etc/systemd/system", unit), filepath.Join(unitMasks, unit))) {
			err = errors.Join(err, maskUnit(unit))
		}
	}
	return err
}

// haltAtOnce has a systemd halt without a program to tell it so, as it powers off: before systemd 254 there is no such way
// to halt. Without a machine below, both are the end of systemd.
func haltAtOnce() error {
	const most, action = 1 << 16, "\nSuccessAction=poweroff-force\n"
	halt, err := files.ReadSmall("/lib/systemd/system/systemd-halt.service", most)
	off, offErr := files.ReadSmall("/lib/systemd/system/systemd-poweroff.service", most)
	if err := errors.Join(err, offErr); err != nil {
		return nil //nolint:nilerr // an image with something else in their place, such as a mask, ends in its own way
	}
	if !strings.Contains(halt, "\nExecStart=systemctl --force halt\n") || !strings.Contains(off, action) {
		return nil
	}
	return dropIn("systemd-halt.service", "[Unit]"+action+"[Service]\nExecStart=\n")
}
