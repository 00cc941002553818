package conf

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"boxrun/launcher/box"
	"boxrun/launcher/files"
	"boxrun/launcher/guest"
	"boxrun/launcher/list"
	"boxrun/profiles"
)

// Dir describes the configuration files of a box. The files are in the directory DIR on the host, and are bound
// read-only over the box's own files:
//
//	DIR/masks          /etc/boxrun/masks                      UNIT -> /dev/null, for units not to start
//	DIR/system.conf    /etc/systemd/system.conf.d/90-boxrun.conf    environment of the services
//	DIR/tasks.conf     /etc/systemd/system.conf.d/91-boxrun.conf    no limit per service, where the box has a limit
//	DIR/resolv.conf    /etc/resolv.conf, /etc/boxrun/resolv.conf    name servers
//	DIR/resolved.conf  /etc/systemd/resolved.conf.d/90-boxrun.conf  name servers, where systemd-resolved runs
//	DIR/tmpfiles.conf  /etc/tmpfiles.d/boxrun.conf            name servers, where systemd-resolved does not run
//	DIR/hosts          /etc/hosts                             the box's own name, and the boxes on its bridge
//	DIR/machine-id     /etc/machine-id                        where the host keeps the box's journal under the id
//
// From DIR/masks the first process of a confined box makes /run/systemd/system.control. The directory has precedence
// over /etc/systemd/system, the directory of an administrator's own units. A box at the level host has no such process:
// there DIR/masks lies on /etc/systemd/system.control, and "systemctl set-property" needs --runtime.
//
// Some images have an /etc/resolv.conf that is a link into /run. A bind on the link lands in /run, and is hidden when
// systemd mounts its own /run. Then systemd-resolved makes the file from resolved.conf. In a box without
// systemd-resolved, systemd-tmpfiles makes a link to boxrun's resolv.conf there.
type Dir struct {
	Systemd     bool              // the box boots systemd; false leaves out all files for systemd
	Masks       string            // path in the box of the units to mask
	Hosts       string            // content of the hosts file
	Names       Resolvers         // name servers and search domains of the box
	Environment map[string]string // of the services; the decoder has checked names and values
	Mask        []string          // units to mask, beside maskedUnits
	TasksHeld   bool              // resources.pids limits the box
	MachineID   string            // where the host keeps the box's journal under the id; "": the image's own id
}

// maskedUnits returns the units no box may start. Some act on the kernel, which the box shares with the host
// (/proc/sys and /sys are writable in a box); others wait for devices of the host. The name of a template stands for
// all its instances.
func maskedUnits() []string {
	return []string{
		// Make events of, name and set up the host's devices. Debian calls systemd-udevd udev.
		"systemd-udevd.service", "systemd-udevd-control.socket", "systemd-udevd-kernel.socket",
		"systemd-udevd-varlink.socket", "systemd-udev-trigger.service", "systemd-udev-settle.service", "udev.service",
		// Set sysctls (procps to Debian and Ubuntu), load modules (kmod to Debian), register interpreters.
		"systemd-sysctl.service", "procps.service", "systemd-modules-load.service", "kmod.service",
		"systemd-binfmt.service", "proc-sys-fs-binfmt_misc.automount", "proc-sys-fs-binfmt_misc.mount",
		// Set the clock.
		"systemd-timesyncd.service", "chronyd.service", "chrony.service", "ntpd.service", "ntp.service",
		"ntpsec.service", "openntpd.service",
		// Mounts the root anew, as the fstab of the machine says that the image was: a box has its root from Apptainer.
		"systemd-remount-fs.service",
		// Starts the system anew without the mounts that Apptainer made: data would be written beside the binds.
		"systemd-soft-reboot.service",
		// Waits 90 s for a terminal of the host, which no box has.
		"serial-getty@.service",
		// Take over the kernel's audit.
		"auditd.service", "systemd-journald-audit.socket",
		// Set up a cloud's machine by what the cloud tells of the host.
		"cloud-init.service", "cloud-init-local.service", "cloud-init-main.service", "cloud-init-network.service",
		"cloud-init-hotplugd.service", "cloud-init-hotplugd.socket", "cloud-config.service", "cloud-final.service",
		"nm-cloud-setup.service", "nm-cloud-setup.timer", "google-guest-agent.service",
		"google-startup-scripts.service", "walinuxagent.service", "waagent.service",
		// Tune interrupts and the scheduler.
		"irqbalance.service", "tuned.service",
	}
}

// A bound is a file of the directory, and the paths in the box for its binds.
type bound struct {
	file    files.File
	targets []string
}

// bounds returns the files of the directory, except the masks.
func (c Dir) bounds() []bound {
	var all []bound
	add := func(path, content string, mode fs.FileMode, targets ...string) {
		all = append(all, bound{files.File{Path: path, Content: content, Mode: mode}, targets})
	}
	if c.Systemd && len(c.Environment) > 0 { // not for everyone on the host to read
		add(environmentFile, environmentConf(c.Environment), 0o600, "/etc/systemd/system.conf.d/90-boxrun.conf")
	}
	if c.Systemd && c.TasksHeld {
		add("tasks.conf", tasksConf, 0o644, "/etc/systemd/system.conf.d/91-boxrun.conf")
	}
	add(resolvFile, c.Names.resolvConf(), 0o644, "/etc/resolv.conf", keptResolvConf)
	if c.Systemd {
		add(resolvedFile, c.Names.resolvedConf(), 0o644, "/etc/systemd/resolved.conf.d/90-boxrun.conf")
		add("tmpfiles.conf", tmpfilesConf(), 0o644, "/etc/tmpfiles.d/boxrun.conf")
	}
	add("hosts", c.Hosts, 0o644, "/etc/hosts")
	if c.Systemd && c.MachineID != "" {
		add("machine-id", c.MachineID+"\n", 0o444, "/etc/machine-id")
	}
	return all
}

// The files of a Dir with name servers.
const (
	resolvFile   = "resolv.conf"
	resolvedFile = "resolved.conf"
)

// resolverFiles returns the files of c with name servers, in the directory dir.
func (c Dir) resolverFiles(dir string) files.Set {
	list := slices.DeleteFunc(c.Files(), func(f files.File) bool { return f.Path != resolvFile && f.Path != resolvedFile })
	return files.Set{Doing: "writing name servers of the box", Files: files.In(dir, list)}
}

// Files returns the files of the directory: first the masks, sorted by name.
func (c Dir) Files() []files.File {
	var masks []files.File
	if c.Systemd {
		mask := func(unit string) files.File { return files.File{Path: "masks/" + unit, Link: "/dev/null"} }
		masks = list.Map(c.masked(), mask)
	}
	return append(masks, list.Map(c.bounds(), func(b bound) files.File { return b.file })...)
}

// masked returns the units to mask, boxrun's and the profile's, sorted and without duplicates.
func (c Dir) masked() []string {
	units := append(maskedUnits(), list.Map(c.Mask, guest.UnitName)...)
	slices.Sort(units)
	return slices.Compact(units)
}

// Binds returns the binds for putting the files of dir into the box, in Apptainer's SRC:DST:ro.
func (c Dir) Binds(dir string) []string {
	var binds []string
	add := func(path, target string) { binds = append(binds, filepath.Join(dir, path)+":"+target+":ro") }
	if c.Systemd {
		add("masks", c.Masks)
	}
	for _, b := range c.bounds() {
		for _, target := range b.targets {
			add(b.file.Path, target)
		}
	}
	return binds
}

// At returns the files of c as those of the directory dir. They may be bound into the running box, so a file keeps its
// inode when written anew.
func (c Dir) At(dir string) files.Set {
	all := append([]files.File{files.Dir(filepath.Join(dir, "masks"))}, files.In(dir, c.Files())...)
	return files.Set{Doing: "writing configuration of the box", Files: all, Dir: dir}
}

// environmentFile is the file of a Dir with the values of the variables. Only root may read this file.
const environmentFile = "system.conf"

// Environment returns the variables of the services of a running box, as NAME=VALUE. Only root can read them; for other
// users, and for a box without variables, the list is empty.
func Environment(s *box.Store, name string) []string {
	text, err := os.ReadFile(filepath.Join(s.ConfDir(name), environmentFile))
	if err != nil {
		return nil
	}
	return readEnvironment(string(text))
}

// ChangedEnvironment says whether the values of variables in p differ from the values written for the running box.
// The names of the variables are not compared here: the hash of the profile covers them. Only root can read the
// values; for other users nothing has changed.
func ChangedEnvironment(s *box.Store, p profiles.Profile) bool {
	if len(p.Systemd.Environment) == 0 || box.IsHello(p.Image) {
		return false
	}
	told := files.File{
		Path:    filepath.Join(s.ConfDir(p.Name), environmentFile),
		Content: environmentConf(p.Systemd.Environment),
	}
	written, err := told.IsWritten()
	return !written && !errors.Is(err, fs.ErrPermission)
}
