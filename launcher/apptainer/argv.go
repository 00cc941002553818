package apptainer

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"boxrun/profiles"
)

// Start holds everything the command line of a start depends on.
type Start struct {
	Conf    string // the apptainer.conf with the path of boxrun's conflists
	Profile profiles.Profile
	Image   string // as given to Apptainer: for a builtin image its sandbox
	Network string // name of the CNI network
	LAN     string // name of a second CNI network, of a LAN beside the bridge; "" for none
	Addr    netip.Addr
	Binds   []string // boxrun's own binds, in Apptainer's SRC:DST[:ro]; the profile's binds come after them
	Confine []string // flags for a confined box, the limits among them
}

// Argv returns the command that starts the box. Apptainer would hide the image's own /root; --no-home keeps /root
// visible. systemd gets the whole cgroup tree, because /proc/self/cgroup is not namespaced.
// Apptainer would bind the host's time zone and hosts file over the image's, writable: both are a "bind path" in the
// apptainer.conf that Apptainer comes with. --no-mount leaves them out, wherever the site's file has no such line too.
func (s Start) Argv() []string {
	p := s.Profile
	argv := append([]string{"apptainer", "-c", s.Conf, "instance", "start", "--boot"}, s.networkFlags()...)
	argv = append(argv, "--hostname", p.Hostname, "--no-home", "--no-mount", "/etc/localtime,/etc/hosts")
	argv = append(argv, rootFlags(p.Storage)...)
	argv = append(argv, "--bind", "/sys/fs/cgroup")
	for _, b := range slices.DeleteFunc(slices.Clone(s.Binds), s.replaces) {
		argv = append(argv, "--bind", b)
	}
	for _, b := range p.Storage.Binds {
		argv = append(argv, "--bind", bindFlag(b))
	}
	for _, path := range p.Security.Devices {
		argv = append(argv, "--bind", path)
	}
	if p.Security.Confined() {
		argv = append(argv, s.Confine...)
	} else {
		argv = append(argv, LimitFlags(p.Resources)...)
	}
	argv = append(argv, p.Apptainer.Args...)
	return append(argv, s.Image, p.Name)
}

// replaces says whether the profile has a bind with the same target as bind, a bind of boxrun's own. boxrun's bind is
// then left out: of two binds on the same path Apptainer takes the first.
func (s Start) replaces(bind string) bool {
	target := strings.Split(bind, ":")[1]
	return slices.ContainsFunc(s.Profile.Storage.Binds, func(b profiles.Bind) bool { return b.Target == target })
}

// rootFlags returns the flags for the writable layer. No flags mean Apptainer's default, a read-only root.
func rootFlags(s profiles.Storage) []string {
	switch s.Root {
	case "overlay":
		return []string{"--overlay", s.Overlay}
	case "tmpfs":
		return []string{"--writable-tmpfs"}
	default:
		return nil
	}
}

// bindFlag returns a bind of the profile as the value of --bind: SRC:DST or SRC:DST:ro.
func bindFlag(b profiles.Bind) string {
	if b.ReadOnly {
		return b.Source + ":" + b.Target + ":ro"
	}
	return b.Source + ":" + b.Target
}

// Environment returns all variables Apptainer's command line gets from boxrun. The box's init gets the same variables
// (SetContainerEnv in internal/pkg/util/env). HOME pins Apptainer's directory. systemd learns from the plain variable
// container= where it runs (https://systemd.io/CONTAINER_INTERFACE), and Apptainer never sets this variable.
func Environment(home string) []string { return append(CommonEnvironment(home), "container=apptainer") }

// CommonEnvironment returns the variables for every program boxrun runs on the host. home is the value of HOME.
func CommonEnvironment(home string) []string {
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=" + home,
		"TERM=linux",
		"LANG=C.UTF-8",
	}
}

// RecordPath returns the path where Apptainer will write the record of the instance (GetDir in
// internal/pkg/instance).
func RecordPath(home, hostname, name string) string {
	return filepath.Join(home, ".apptainer", "instances", "app", hostname, "root", name, name+".json")
}

// LogPath returns the path of the instance's .err log. Apptainer only ever appends to this log (SetLogFile in
// internal/pkg/instance).
func LogPath(home, hostname, name string) string {
	return filepath.Join(home, ".apptainer", "instances", "logs", hostname, "root", name+".err")
}

// LimitFlags returns Apptainer's flags for the limits.
func LimitFlags(r profiles.Resources) []string {
	var flags []string
	if r.Memory > 0 {
		// Apptainer counts memory and swap together: with both equal, no swap is left.
		flags = append(flags, "--memory", r.Memory.String(), "--memory-swap", r.Memory.String())
	}
	if r.CPUs > 0 {
		flags = append(flags, "--cpus", strconv.FormatFloat(r.CPUs, 'f', -1, 64))
	}
	if r.PIDs > 0 {
		flags = append(flags, "--pids-limit", strconv.Itoa(r.PIDs))
	}
	return flags
}

// HostNetns is the network namespace of the host. Apptainer joins this namespace before entering the box's mounts.
const HostNetns = "/proc/1/ns/net"

// networkFlags returns Apptainer's flags that connect the box. --boot alone would ask for Apptainer's own bridge. As
// --boot implies --net, Apptainer warns of --netns-path, but obeys.
func (s Start) networkFlags() []string {
	switch s.Profile.Network.Mode {
	case profiles.HostMode:
		return []string{"--netns-path", HostNetns}
	case profiles.NoneMode:
		return []string{"--net", "--network", "none"}
	case profiles.LANMode:
		return []string{"--net", "--network", s.Network}
	}
	if s.LAN != "" { // as eth1: Apptainer numbers the devices in the order of the networks
		return []string{"--net", "--network", s.Network + "," + s.LAN, "--network-args", s.Network + ":IP=" + s.Addr.String()}
	}
	return []string{"--net", "--network", s.Network, "--network-args", "IP=" + s.Addr.String()}
}
