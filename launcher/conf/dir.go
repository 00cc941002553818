package conf

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/launcher/guest"
	"boxrun/profiles"
)

// Dir is what one box is told by way of files of the host that are bound over its own, read-only: the directory
// DIR on the host, and in the box
//
//	DIR/masks          /etc/systemd/system.control            UNIT -> /dev/null, for units not to start
//	DIR/system.conf    /etc/systemd/system.conf.d/90-boxrun.conf    environment of its services
//	DIR/tasks.conf     /etc/systemd/system.conf.d/91-boxrun.conf    no limit for each, where the box has one
//	DIR/resolv.conf    /etc/resolv.conf, /etc/boxrun/resolv.conf    name servers
//	DIR/resolved.conf  /etc/systemd/resolved.conf.d/90-boxrun.conf  the same, where systemd-resolved runs
//	DIR/tmpfiles.conf  /etc/tmpfiles.d/boxrun.conf            the same, where it does not
//	DIR/hosts          /etc/hosts                             its own name, and the boxes on its bridge
//
// system.control outranks /etc/systemd/system, where an administrator's own units are, and is otherwise used by
// "systemctl set-property" alone, which therefore needs --runtime inside a box. Where the image's /etc/resolv.conf is a
// link into /run, a bind on it lands there, and is hidden when systemd mounts its own /run: then
// systemd-resolved makes the file from resolved.conf, and in a box without it systemd-tmpfiles copies ours there.
type Dir struct {
	Systemd     bool              // the box boots systemd: false leaves out all that is for it
	Hosts       string            // its hosts file
	Names       resolving         // what it asks for names
	Environment map[string]string // of its services; names and values are checked by whoever decoded them
	Mask        []string          // units, beside those of maskedUnits
	TasksHeld   bool              // resources.pids limits the box
}

// maskedUnits gives the units that no box may start, as they act on the kernel, which it shares with the host (/proc/sys
// and /sys are writable in a box), or wait for its devices. In a template's name every instance is meant.
func maskedUnits() []string {
	return []string{
		// Make events of, name and set up the host's devices.
		"systemd-udevd.service",
		"systemd-udevd-control.socket",
		"systemd-udevd-kernel.socket",
		"systemd-udevd-varlink.socket",
		"systemd-udev-trigger.service",
		"systemd-udev-settle.service",
		"udev.service", // systemd-udevd, to Debian
		// Set sysctls, load modules, register interpreters.
		"systemd-sysctl.service",
		"procps.service", // systemd-sysctl, to Debian and Ubuntu
		"systemd-modules-load.service",
		"kmod.service", // systemd-modules-load, to Debian
		"systemd-binfmt.service",
		"proc-sys-fs-binfmt_misc.automount",
		"proc-sys-fs-binfmt_misc.mount",
		// Set the clock.
		"systemd-timesyncd.service",
		"chronyd.service",
		"chrony.service",
		"ntpd.service",
		"ntp.service",
		"ntpsec.service",
		"openntpd.service",
		// Waits 90 s for a terminal of the host's that no box has.
		"serial-getty@.service",
		// Take over the kernel's audit.
		"auditd.service",
		"systemd-journald-audit.socket",
		// Tune interrupts and the scheduler.
		"irqbalance.service",
		"tuned.service",
	}
}

// Files gives what the directory holds, in the order of Path within each kind.
func (c Dir) Files() []files.File {
	var list []files.File
	if c.Systemd {
		for _, unit := range c.masked() {
			list = append(list, files.File{Path: "masks/" + unit, Link: "/dev/null"})
		}
		if len(c.Environment) > 0 { // not for everyone on the host to read
			list = append(list, files.File{Path: environmentFile, Content: environmentConf(c.Environment), Mode: 0o600})
		}
		if c.TasksHeld {
			list = append(list, files.File{Path: "tasks.conf", Content: tasksConf(), Mode: 0o644})
		}
	}
	list = append(list, files.File{Path: "resolv.conf", Content: c.Names.resolvConf(), Mode: 0o644})
	if c.Systemd {
		list = append(list, files.File{Path: "resolved.conf", Content: c.Names.resolvedConf(), Mode: 0o644},
			files.File{Path: "tmpfiles.conf", Content: tmpfilesConf(), Mode: 0o644})
	}
	return append(list, files.File{Path: "hosts", Content: c.Hosts, Mode: 0o644})
}

func (c Dir) masked() []string {
	units := maskedUnits()
	for _, u := range c.Mask {
		units = append(units, guest.UnitName(u))
	}
	slices.Sort(units)
	return slices.Compact(units)
}

// Binds gives the binds that put dir into the box, in Apptainer's SRC:DST:ro.
func (c Dir) Binds(dir string) []string {
	targets := []struct{ path, target string }{
		{"masks", "/etc/systemd/system.control"},
		{environmentFile, "/etc/systemd/system.conf.d/90-boxrun.conf"},
		{"tasks.conf", "/etc/systemd/system.conf.d/91-boxrun.conf"},
		{"resolv.conf", "/etc/resolv.conf"},
		{"resolv.conf", keptResolvConf},
		{"resolved.conf", "/etc/systemd/resolved.conf.d/90-boxrun.conf"},
		{"tmpfiles.conf", "/etc/tmpfiles.d/boxrun.conf"},
		{"hosts", "/etc/hosts"},
	}
	list := c.Files()
	var binds []string
	for _, t := range targets {
		if slices.ContainsFunc(list, func(f files.File) bool { return top(f.Path) == t.path }) {
			binds = append(binds, filepath.Join(dir, t.path)+":"+t.target+":ro")
		}
	}
	return binds
}

// top gives the first element of a relative path.
func top(path string) string {
	first, _, _ := strings.Cut(path, "/")
	return first
}

// Write makes the directory dir be as c has it: twice is as good as once, and what c does not have is removed. A file
// that is there with another content is written over in place, not replaced: it may be bound into the running box,
// which would go on seeing the old one. The content goes in by one write, so that hardly anyone sees half of it.
func (c Dir) Write(dir string) error {
	list := c.Files()
	err := files.WriteAll(dir, list)
	if err == nil {
		err = files.RemoveOthers(dir, list)
	}
	return fault.Wrap("writing configuration of the box", err)
}

// environmentFile is that of a Dir with the values of variables, for root alone.
const environmentFile = "system.conf"

// ChangedEnvironment says whether p has other values for variables than the services of its running box were told. Whether it
// has other variables is the hash's to say. Only root can look: to others nothing has changed.
func ChangedEnvironment(s *box.Store, p profiles.Profile) bool {
	if len(p.Systemd.Environment) == 0 || box.IsHello(p.Image) {
		return false
	}
	told, err := os.ReadFile(filepath.Join(s.ConfDir(p.Name), environmentFile))
	if errors.Is(err, fs.ErrPermission) {
		return false
	}
	return err != nil || string(told) != environmentConf(p.Systemd.Environment)
}

// environmentConf gives a drop-in of systemd's system.conf that sets env for every service.
func environmentConf(env map[string]string) string {
	names := make([]string, 0, len(env))
	for name := range env {
		names = append(names, name)
	}
	slices.Sort(names)
	var b strings.Builder
	b.WriteString("# Written by boxrun: [systemd] environment of the profile.\n[Manager]\n")
	for _, name := range names {
		fmt.Fprintf(&b, "DefaultEnvironment=\"%s=%s\"\n", name, escapeEnvironment(env[name]))
	}
	return b.String()
}

// escapeEnvironment gives a value as it stands between double quotes in DefaultEnvironment=. A dollar sign means
// nothing there. A % before a letter, a digit or another % would be a specifier, or one that does not exist, for which
// systemd drops the whole variable: it is doubled. systemd before 249 knows no specifiers there and leaves it double.
func escapeEnvironment(value string) string {
	var b strings.Builder
	for i := range len(value) {
		switch c := value[i]; c {
		case '\\', '"':
			b.WriteByte('\\')
			b.WriteByte(c)
		case '\n':
			b.WriteString(`\n`)
		case '\t':
			b.WriteString(`\t`)
		case '%':
			b.WriteByte(c)
			if i+1 < len(value) && isSpecifier(value[i+1]) {
				b.WriteByte(c)
			}
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// isSpecifier says whether c has a meaning after a %, now or in a systemd to come.
func isSpecifier(c byte) bool {
	return c == '%' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// resolvConf gives a resolv.conf. The C library reads no more than three servers, so no more are written. Without any
// there is a file all the same: over it Apptainer's own would be seen.
func (r resolving) resolvConf() string {
	if r.File != "" {
		return r.File
	}
	var b strings.Builder
	b.WriteString("# Written by boxrun.\n")
	if len(r.Servers) == 0 {
		b.WriteString("# No name server is known.\n")
	}
	for _, server := range r.Servers[:min(len(r.Servers), 3)] {
		fmt.Fprintf(&b, "nameserver %s\n", server)
	}
	if len(r.Search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(r.Search, " "))
	}
	return b.String()
}

// resolvedConf gives a drop-in of resolved.conf. Without servers of ours systemd-resolved would ask public ones that
// are compiled into it.
func (r resolving) resolvedConf() string {
	servers := make([]string, len(r.Servers))
	for i, server := range r.Servers {
		servers[i] = server.String()
	}
	text := "# Written by boxrun.\n[Resolve]\nDNS=" + strings.Join(servers, " ") + "\nFallbackDNS=\n"
	if len(r.Search) > 0 {
		text += "Domains=" + strings.Join(r.Search, " ") + "\n"
	}
	return text
}

// keptResolvConf is where a box has boxrun's resolv.conf whatever its own is linked to.
const keptResolvConf = "/etc/boxrun/resolv.conf"

// tmpfilesConf gives a file of tmpfiles.d that copies boxrun's resolv.conf to where an image's may be linked to, unless
// there is a file: whoever owns the place writes over the copy when he starts.
func tmpfilesConf() string {
	text := "# Written by boxrun, for an /etc/resolv.conf that is a link to a file nobody makes.\n"
	for _, path := range []string{
		"/run/systemd/resolve/stub-resolv.conf",
		"/run/systemd/resolve/resolv.conf",
		"/run/NetworkManager/resolv.conf",
	} {
		text += "C " + path + " 0644 - - - " + keptResolvConf + "\n"
	}
	return text
}

// hostsText gives the hosts file of a box with names of its own. Without an address of its own it finds itself at
// 127.0.1.1, as on Debian.
func hostsText(names []string, addr netip.Addr, others []neighbour) string {
	if !addr.IsValid() {
		addr = netip.AddrFrom4([4]byte{127, 0, 1, 1})
	}
	var b strings.Builder
	b.WriteString("# Written by boxrun.\n127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n")
	fmt.Fprintf(&b, "%s %s\n", addr, strings.Join(names, " "))
	for _, other := range others {
		fmt.Fprintf(&b, "%s %s\n", other.Addr, strings.Join(other.Names, " "))
	}
	return b.String()
}
