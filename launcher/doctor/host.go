package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"boxrun/launcher/apptainer"
	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/launcher/inotify"
	"boxrun/launcher/list"
	"boxrun/launcher/pacemaker"
	"boxrun/launcher/process"
	"boxrun/launcher/say"
	"boxrun/launcher/units"
	"boxrun/netsetup"
	"boxrun/netsetup/resolvers"
	"boxrun/profiles"
)

// hostLooks looks at what boxrun needs of the host but does not set up.
type hostLooks struct{ *facts }

func (h hostLooks) list() []look {
	const area = "host"
	looks := []look{
		one(area, "kernel", h.kernel),
		one(area, "kernel features", h.features),
		one(area, "root", h.privileges),
		one(area, "apptainer", h.apptainerVersion),
		one(area, "starter-suid", h.suid),
		one(area, "cni plugins", h.plugins),
		one(area, "cgroup", h.cgroup),
		one(area, "disk space", h.space),
		one(area, "resolver", h.resolver),
		one(area, "selinux, apparmor", h.mandatoryAccess),
		one(area, "conntrack", h.conntrack),
		one(area, "inotify", h.inotify),
	}
	if pacemaker.Here() {
		looks = append(looks, one(area, "pacemaker", h.managers))
	}
	return looks
}

// From goodKernel on, Linux has pidfds and openat2: they make it safe to signal a box and to look into a box. Debian 10
// and RHEL 8 have older kernels, and boxes work there.
const (
	oldestKernel = "4.18"
	goodKernel   = "5.6"
)

// kernel judges the version of the kernel.
func (h hostLooks) kernel(context.Context) Check {
	release, err := h.line("proc/sys/kernel/osrelease")
	switch {
	case err != nil:
		return broken(err)
	case older(release, oldestKernel):
		return fail("boxes have not been seen to work on kernels before "+oldestKernel, "", "%s", release)
	case older(release, goodKernel):
		return warn("boxrun cannot look into boxes without openat2, of Linux "+goodKernel, "", "%s", release)
	}
	return pass("%s", release)
}

// older says whether the first two numbers of version are smaller than the first two of than.
func older(version, than string) bool {
	a, b := numbers(version), numbers(than)
	return slices.Compare(a[:], b[:]) < 0
}

// numbers returns the first two numbers of a version such as 6.1.0-13-amd64. Missing numbers are 0.
func numbers(version string) (n [2]int) {
	fields := strings.FieldsFunc(version, func(r rune) bool { return r < '0' || r > '9' })
	for i := range min(len(n), len(fields)) {
		n[i], _ = strconv.Atoi(fields[i]) // only digits; an overflow counts as newer than all
	}
	return n
}

// features looks for kernel features. Without namespaces and overlay no box starts. Without loop devices and squashfs
// no box of a SIF starts.
func (h hostLooks) features(context.Context) Check {
	var missing []string
	for _, ns := range []string{"net", "mnt", "pid", "uts", "ipc", "cgroup"} {
		if _, err := os.Stat(h.path("proc/self/ns/" + ns)); err != nil {
			missing = append(missing, ns+" namespaces")
		}
	}
	if !h.filesystem("overlay") {
		missing = append(missing, "overlay")
	}
	if len(missing) > 0 {
		return fail("no box starts without them", "install a kernel that has them", "missing: %s", strings.Join(missing, ", "))
	}
	if _, err := os.Stat(h.path("dev/loop-control")); err != nil || !h.filesystem("squashfs") {
		return warn("boxes of SIF files need them; sandbox directories do not", "modprobe -a loop squashfs", "missing: loop devices, or squashfs")
	}
	return pass("namespaces, overlay, loop devices and squashfs")
}

// filesystem says whether the kernel has the file system, or has a module for loading the file system.
func (h hostLooks) filesystem(name string) bool {
	text, err := os.ReadFile(h.path("proc/filesystems"))
	if err == nil && slices.Contains(strings.Fields(string(text)), name) {
		return true
	}
	loadable, err := netsetup.ModuleOnDisk(name)
	return err == nil && loadable
}

// privileges looks for capabilities the kernel withholds even from root, as in some virtual machines and containers.
// Apptainer asks for all capabilities unless its configuration says otherwise.
func (h hostLooks) privileges(context.Context) Check {
	status, statusErr := os.ReadFile(h.path("proc/self/status"))
	last, lastErr := h.line("proc/sys/kernel/cap_last_cap")
	missing, err := withheld(string(status), last)
	if err := cmp.Or(statusErr, lastErr, err); err != nil {
		return broken(err)
	}
	a, err := h.apptainer()
	switch {
	case missing == 0:
		return pass("root, with all capabilities")
	case err != nil || a.Setting("root default capabilities") != "full":
		return pass("root, without capabilities that Apptainer does not ask for (%d)", missing)
	}
	return fail("Apptainer gives boxes all capabilities, and fails where one is missing",
		"set \"root default capabilities = file\" in "+a.ConfFile+", and \"apptainer capability add\" the others for root",
		"root, but the kernel withholds %d capabilities", missing)
}

// withheld returns how many of the capabilities 0 to last are missing from the bounding set. status is the text of a
// /proc/PID/status.
func withheld(status, last string) (int, error) {
	n, err := strconv.Atoi(last)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(status) {
		if set, ok := strings.CutPrefix(line, "CapBnd:"); ok {
			mask, err := strconv.ParseUint(strings.TrimSpace(set), 16, 64)
			return n + 1 - bits.OnesCount64(mask&(1<<(n+1)-1)), err
		}
	}
	return 0, errors.New("no CapBnd in /proc/self/status")
}

// apptainerVersion judges the version of Apptainer.
func (h hostLooks) apptainerVersion(context.Context) Check {
	a, err := h.apptainer()
	if err != nil {
		return fail("boxes are its instances", fault.HintOf(err), "%v", err)
	}
	const install = "install Apptainer 1.4 or newer: https://apptainer.org/docs/admin/main/installation.html"
	switch {
	case older(a.Version, "1.3"):
		return fail("boxrun needs 1.3 or newer", install, "%s at %s", a.Version, a.Path)
	case older(a.Version, "1.4"):
		return pass("%s at %s; network.mode \"host\" needs 1.4", a.Version, a.Path)
	}
	return pass("%s at %s", a.Version, a.Path)
}

// suid always passes. The check tells people that starter-suid, expected by many, is not needed.
func (h hostLooks) suid(context.Context) Check {
	const needless = "starter-suid is not needed: boxes are started by root"
	a, err := h.apptainer()
	switch {
	case err != nil:
		return pass(needless)
	case a.SUID:
		return pass(needless + "; it is installed all the same")
	}
	return pass(needless + ", and it is not installed")
}

// plugins looks for the two CNI plugins of boxrun's networks, in the directories Apptainer searches. The directory
// with the fewest missing plugins is reported.
func (h hostLooks) plugins(context.Context) Check {
	a, err := h.apptainer()
	if err != nil {
		return skip("apptainer cannot be asked")
	}
	missing, where := apptainer.Missing(h.root, a.Libexec, a.Setting("cni plugin path"), "bridge", "host-local")
	if len(missing) == 0 {
		return pass("bridge and host-local in %s", where)
	}
	return fail("Apptainer connects a box by them", "install the package containernetworking-plugins, or set \"cni plugin path\" in "+a.ConfFile,
		"no %s in %s", strings.Join(missing, ", "), where)
}

// cgroup judges the version of cgroups, the controllers available to boxes, and whether each running box has a cgroup
// of its own.
func (h hostLooks) cgroup(context.Context) Check {
	var s unix.Statfs_t
	dir := h.path("sys/fs/cgroup")
	if err := unix.Statfs(dir, &s); err != nil {
		return broken(fmt.Errorf("looking at %s: %w", dir, err))
	}
	switch {
	case s.Type != unix.CGROUP2_SUPER_MAGIC:
		return warn("a systemd of version 258 or newer in a box needs cgroup2", process.UnifiedHint,
			"version 1 or a mixture on /sys/fs/cgroup")
	case s.Flags&unix.ST_RDONLY != 0:
		return fail("the systemd in a box makes cgroups below its own", "mount -o remount,rw /sys/fs/cgroup", "version 2, read-only")
	}
	controllers, err := h.line("sys/fs/cgroup/cgroup.controllers")
	if err != nil {
		return broken(err)
	}
	by := "systemd delegates a scope to each box"
	if !units.Booted() {
		by = "no systemd on the host: each box has a cgroup below /apptainer"
	}
	if controllers == "" {
		controllers = "none: the memory, cpus and pids of boxes cannot be limited"
	}
	if shared := h.names(func(b *box.Box) bool { return b.Alive() && b.Cgroup == "" }); len(shared) > 0 {
		return warn("systemds that share a cgroup stop each other's services", "boxrun restart "+shared[0],
			"version 2; without a cgroup of their own: %s", strings.Join(shared, ", "))
	}
	return pass("version 2, %s; controllers: %s", by, controllers)
}

// With less than tightSpace bytes free a look warns; with less than noSpace it fails.
const (
	tightSpace = 1 << 30
	noSpace    = 64 << 20
)

// space judges the free space on the file systems boxes write to.
func (h hostLooks) space(context.Context) Check {
	dirs := []string{h.store.Dir, "/var/lib/boxrun", "/tmp"}
	for _, b := range h.boxes {
		if dir := b.Overlay(); dir != "" {
			dirs = append(dirs, dir)
		}
	}
	all := list.Map(dirs, func(dir string) Check {
		free, full, err := freeSpace(files.Existing(dir))
		if err != nil {
			return broken(err)
		}
		return judgeSpace(dir, free, full, strings.HasPrefix(dir, h.store.Dir)) // state needs little room
	})
	for _, verdict := range []Verdict{Fail, Warn} {
		if i := slices.IndexFunc(all, func(c Check) bool { return c.Status == verdict }); i >= 0 {
			return all[i]
		}
	}
	return pass("%s", strings.Join(list.Map(all, func(c Check) string { return c.Found }), ", "))
}

// judgeSpace judges the free bytes of dir's file system. full says whether the file system has no inodes left, small
// whether boxes write little there.
func judgeSpace(dir string, free uint64, full, small bool) Check {
	const why = "boxes keep there what they write: overlays, state, logs"
	switch {
	case full:
		return fail(why, "df -i "+dir, "no inodes left below %s, as too many files are there: %s free", dir, say.Bytes(free))
	case free < noSpace:
		return fail(why, "df -h "+dir, "%s free below %s", say.Bytes(free), dir)
	case free < tightSpace && !small:
		return warn(why, "df -h "+dir, "%s free below %s", say.Bytes(free), dir)
	}
	return pass("%s free below %s", say.Bytes(free), dir)
}

// freeSpace returns the free bytes of dir's file system. full says whether the file system has no inodes left.
func freeSpace(dir string) (free uint64, full bool, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, false, fmt.Errorf("looking at %s: %w", dir, err)
	}
	return s.Bavail * uint64(s.Bsize), s.Files > 0 && s.Ffree == 0, nil
}

// resolver looks for name servers that boxes can ask. A stub on 127.0.0.1 is out of reach for boxes; then the servers
// behind the stub must be known.
func (h hostLooks) resolver(context.Context) Check {
	r, err := resolvers.OfHost(h.six())
	if err != nil {
		return broken(err)
	}
	own, err := os.ReadFile(h.path("etc/resolv.conf"))
	stub := err == nil && strings.Contains(string(own), "nameserver 127.")
	const why = "a stub on the host's 127.0.0.1 is out of reach for boxes: names do not resolve in them"
	switch {
	case len(r.Servers) == 0 && stub:
		return warn(why, "set network.dns in the profiles, e.g. dns = [\"192.0.2.53\"]", "/etc/resolv.conf names a stub, and the servers behind it are unknown")
	case len(r.Others) > 0:
		return warn("names do not resolve in boxes with IPv4 alone", "set network.dns in the profiles", "the host's name servers are of IPv6: %s", addrsText(r.Others))
	case len(r.Servers) == 0:
		return warn("names do not resolve in boxes", "set network.dns in the profiles", "the host has no name servers that a box can reach")
	case stub:
		return pass("/etc/resolv.conf names a stub; boxes get the servers behind it from %s: %s", r.Source, addrsText(r.Servers))
	}
	return pass("%s from %s", addrsText(r.Servers), r.Source)
}

// six reports whether a box has IPv6, or, without boxes, whether a box of no special profile would.
func (h hostLooks) six() bool {
	if len(h.boxes) == 0 {
		return box.HasIPv6(profiles.Default().Network)
	}
	return slices.ContainsFunc(h.boxes, func(b *box.Box) bool { return b.Addr6().IsValid() })
}

// addrsText lists at most four addresses.
func addrsText(addrs []netip.Addr) string {
	return say.Listed(list.Map(addrs, netip.Addr.String), 4)
}

// mandatoryAccess always passes. The check tells where to look when a box may not do something that root normally may
// do.
func (h hostLooks) mandatoryAccess(context.Context) Check {
	if enforce, err := h.line("sys/fs/selinux/enforce"); err == nil {
		if enforce == "1" {
			return pass("SELinux is enforcing: \"ausearch -m avc -ts recent\" shows what it denied a box")
		}
		return pass("SELinux is permissive")
	}
	if enabled, err := h.line("sys/module/apparmor/parameters/enabled"); err == nil && enabled == "Y" {
		return pass("AppArmor is on; root's boxes are not confined by it")
	}
	return pass("neither")
}

// conntrack judges how full the table of tracked connections is. The kernel drops new connections when the table is
// full.
func (h hostLooks) conntrack(context.Context) Check {
	count, errCount := h.number("proc/sys/net/netfilter/nf_conntrack_count")
	limit, errLimit := h.number("proc/sys/net/netfilter/nf_conntrack_max")
	if err := errors.Join(errCount, errLimit); err != nil {
		return unreadable(err, "connections are not tracked yet")
	}
	fix := fmt.Sprintf("sysctl -w net.netfilter.nf_conntrack_max=%d", 2*limit)
	const why = "a full table drops new connections, to boxes and all others"
	switch {
	case limit == 0 || count < limit*3/4:
		return pass("%d connections tracked, room for %d", count, limit)
	case count < limit*19/20:
		return warn(why, fix, "%d of %d connections", count, limit)
	}
	return fail(why, fix, "%d of %d connections", count, limit)
}

// managers says whether a boot starts boxes that Pacemaker starts as well.
func (h hostLooks) managers(context.Context) Check {
	for _, profile := range units.EnabledNames() {
		resource, err := pacemaker.ManagerOf(profiles.BoxName(profile))
		switch {
		case err != nil:
			return skip("%v", err)
		case resource != "":
			return warn("a boot starts the box wherever the cluster has it, and two write its data", "boxrun disable "+profile,
				"%s is enabled on this host, and is the resource %q of Pacemaker", profile, resource)
		}
	}
	return pass("starts no box that is enabled as well")
}

// inotify judges how many inotify instances are left for root, who is root of every box.
func (h hostLooks) inotify(context.Context) Check {
	room, err := inotify.Look()
	switch {
	case err != nil:
		return unreadable(err, "the kernel has no inotify")
	case room.Tight():
		return warn("without them units of another box fail: "+room.Hint(), room.Fix(), "%v", room)
	}
	return pass("%v", room)
}
