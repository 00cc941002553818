package apptainer

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"boxrun/profiles"
)

// Start is all that the command line of one start depends on.
type Start struct {
	Conf    string // the apptainer.conf that finds boxrun's conflists
	Profile profiles.Profile
	Image   string // as Apptainer is given it: for a builtin image its sandbox
	Network string // CNI network
	Addr    netip.Addr
	DNS     []netip.Addr // name servers
	Binds   []string     // boxrun's own, in Apptainer's SRC:DST[:ro]; the profile's come after them
}

// Argv gives the command that starts the box. --no-home keeps the image's own /root, which Apptainer would hide.
// systemd gets the whole cgroup tree, as /proc/self/cgroup is not namespaced.
func (s Start) Argv() []string {
	p := s.Profile
	argv := append([]string{"apptainer", "-c", s.Conf, "instance", "start", "--boot"}, s.networkFlags()...)
	argv = append(argv, "--dns", s.dns(), "--hostname", p.Hostname, "--no-home")
	argv = append(argv, rootFlags(p.Storage)...)
	argv = append(argv, "--bind", "/sys/fs/cgroup")
	for _, b := range s.Binds {
		if !s.replaces(b) {
			argv = append(argv, "--bind", b)
		}
	}
	for _, b := range p.Storage.Binds {
		argv = append(argv, "--bind", bindFlag(b))
	}
	argv = append(argv, LimitFlags(p.Resources)...)
	argv = append(argv, p.Apptainer.Args...)
	return append(argv, s.Image, p.Name)
}

// replaces says whether the profile binds something of its own where one of boxrun's binds goes: of two binds on one
// path Apptainer takes the first.
func (s Start) replaces(bind string) bool {
	target := strings.Split(bind, ":")[1]
	return slices.ContainsFunc(s.Profile.Storage.Binds, func(b profiles.Bind) bool { return b.Target == target })
}

// dns keeps Apptainer from the host's resolv.conf, which 1.5 would bind writable (addResolvConfMount), and whose absence is an
// error to it: the file it makes of this is under boxrun's own.
func (s Start) dns() string {
	if len(s.DNS) == 0 {
		return "127.0.0.1"
	}
	words := make([]string, len(s.DNS))
	for i, server := range s.DNS {
		words[i] = server.String()
	}
	return strings.Join(words, ",")
}

// rootFlags gives the writable layer: none is Apptainer's default, a read-only root.
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

func bindFlag(b profiles.Bind) string {
	if b.ReadOnly {
		return b.Source + ":" + b.Target + ":ro"
	}
	return b.Source + ":" + b.Target
}

// Environment is all that Apptainer's command line gets of ours, and with it the box's init (SetContainerEnv in
// internal/pkg/util/env). HOME pins Apptainer's directory; container= as a plain variable is how systemd learns where it
// runs (https://systemd.io/CONTAINER_INTERFACE), and Apptainer never sets it.
func Environment(home string) []string { return append(CommonEnvironment(home), "container=apptainer") }

// CommonEnvironment is what everything that boxrun runs on the host has in common.
func CommonEnvironment(home string) []string {
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=" + home,
		"TERM=linux",
		"LANG=C.UTF-8",
	}
}

// RecordPath gives where Apptainer will write the record of the instance (GetDir in internal/pkg/instance).
func RecordPath(home, hostname, name string) string {
	return filepath.Join(home, ".apptainer", "instances", "app", hostname, "root", name, name+".json")
}

// LogPath gives the instance's .err log, which Apptainer only ever appends to (SetLogFile in internal/pkg/instance).
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
	default:
		return []string{"--net", "--network", s.Network, "--network-args", "IP=" + s.Addr.String()}
	}
}
