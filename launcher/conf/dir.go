package conf

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"boxrun/launcher/box"
	"boxrun/launcher/confine"
	"boxrun/launcher/files"
	"boxrun/launcher/guest"
	"boxrun/launcher/list"
	"boxrun/profiles"
)

// Dir describes the configuration files of a box. The files are in the directory DIR on the host, and are bound
// read-only into the box, some over the box's own files:
//
//	DIR/resolv.conf    /etc/resolv.conf  name servers
//	DIR/hosts          /etc/hosts        the box's own name, and the boxes on its bridge
//	DIR/machine-id     /etc/machine-id   where the host keeps the box's journal under the id
//	DIR/masks                            the units not to start, a line each
//	DIR/system.conf                      environment of the services
//	DIR/tasks.conf                       no limit per service, where the box has a limit
//	DIR/resolved.conf                    name servers, where systemd-resolved runs
//	DIR/tmpfiles.conf                    name servers, where systemd-resolved does not run
//
// A confined box has all of DIR as confine.Dir, until its first process has masked the units, and put the rest where systemd
// looks below /run (confine.DropIns). A box at the level host has no such process: there the last four are bound below /etc,
// and DIR/masks is a directory of links to /dev/null, which lies on /etc/systemd/system.control. This directory has precedence
// over /etc/systemd/system, the directory of an administrator's own units, and "systemctl set-property" needs --runtime.
//
// Some images have an /etc/resolv.conf that is a link into /run. A bind on the link lands in /run, and is hidden when
// systemd mounts its own /run. Then systemd-resolved makes the file from resolved.conf. In a box without
// systemd-resolved, systemd-tmpfiles makes a link to boxrun's resolv.conf there.
type Dir struct {
	Systemd     bool              // the box boots systemd; false leaves out all files for systemd
	Confined    bool              // the box has a first process of boxrun's
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
		add(environmentFile, environmentConf(c.Environment), 0o600, c.dropIn(environmentFile)...)
	}
	if c.Systemd && c.TasksHeld {
		add("tasks.conf", tasksConf, 0o644, c.dropIn("tasks.conf")...)
	}
	names := []string{"/etc/resolv.conf"}
	if c.Systemd && !c.Confined {
		names = append(names, keptNames)
	}
	add(confine.Names, c.Names.resolvConf(), 0o644, names...)
	if c.Systemd {
		add(confine.Resolved, c.Names.resolvedConf(), 0o644, c.dropIn(confine.Resolved)...)
		add("tmpfiles.conf", tmpfilesConf(c.Confined), 0o644, c.dropIn("tmpfiles.conf")...)
	}
	add("hosts", c.Hosts, 0o644, "/etc/hosts")
	if c.Systemd && c.MachineID != "" {
		add("machine-id", c.MachineID+"\n", 0o444, "/etc/machine-id")
	}
	return all
}

// dropIn returns where a file for systemd is bound; nowhere in a confined box, whose first process places the file.
func (c Dir) dropIn(name string) []string {
	if c.Confined {
		return nil
	}
	return []string{"/etc" + confine.DropIns()[name]}
}

// resolverFiles returns the files of c with name servers, in the directory dir.
func (c Dir) resolverFiles(dir string) files.Set {
	list := slices.DeleteFunc(c.Files(), func(f files.File) bool { return f.Path != confine.Names && f.Path != confine.Resolved })
	return files.Set{Doing: "writing name servers of the box", Files: files.In(dir, list)}
}

// Files returns the files of the directory: first the masks, sorted by name.
func (c Dir) Files() []files.File {
	return append(c.masks(), list.Map(c.bounds(), func(b bound) files.File { return b.file })...)
}

// masks returns the files that tell which units to mask.
func (c Dir) masks() []files.File {
	switch {
	case !c.Systemd:
		return nil
	case c.Confined:
		return []files.File{{Path: confine.Masks, Content: strings.Join(c.masked(), "\n") + "\n", Mode: 0o644}}
	}
	return list.Map(c.masked(), func(unit string) files.File {
		return files.File{Path: filepath.Join(confine.Masks, unit), Link: "/dev/null"}
	})
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
	add := func(path, target string) { binds = append(binds, path+":"+target+":ro") }
	switch {
	case c.Systemd && c.Confined:
		add(dir, confine.Dir)
	case c.Systemd:
		add(filepath.Join(dir, confine.Masks), "/etc/systemd/system.control")
	}
	for _, b := range c.bounds() {
		for _, target := range b.targets {
			add(filepath.Join(dir, b.file.Path), target)
		}
	}
	return binds
}

// At returns the files of c as those of the directory dir. They may be bound into the running box, so a file keeps its
// inode when written anew.
func (c Dir) At(dir string) files.Set {
	top := dir
	if c.Systemd && !c.Confined {
		top = filepath.Join(dir, confine.Masks)
	}
	all := append([]files.File{files.Dir(top)}, files.In(dir, c.Files())...)
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
