package launcher

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"boxrun/profiles"
)

// start is all that the command line of one start depends on.
type start struct {
	Conf    string // the apptainer.conf that finds boxrun's conflists
	Profile profiles.Profile
	Image   string // as Apptainer is given it: for a builtin image its sandbox
	Network string // CNI network
	Addr    netip.Addr
	DNS     []netip.Addr // name servers
	Binds   []string     // boxrun's own, in Apptainer's SRC:DST[:ro]; the profile's come after them
}

// argv gives the command that starts the box. --no-home keeps the image's own /root, which Apptainer would hide.
// systemd gets the whole cgroup tree, as /proc/self/cgroup is not namespaced.
func (s start) argv() []string {
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
	argv = append(argv, limitFlags(p.Resources)...)
	argv = append(argv, p.Apptainer.Args...)
	return append(argv, s.Image, p.Name)
}

// replaces says whether the profile binds something of its own where one of boxrun's binds goes: of two binds on one
// path Apptainer takes the first.
func (s start) replaces(bind string) bool {
	target := strings.Split(bind, ":")[1]
	return slices.ContainsFunc(s.Profile.Storage.Binds, func(b profiles.Bind) bool { return b.Target == target })
}

// dns keeps Apptainer from the host's resolv.conf, which 1.5 would bind writable (addResolvConfMount), and whose absence is an
// error to it: the file it makes of this is under boxrun's own.
func (s start) dns() string {
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

// environment is all that Apptainer's command line gets of ours, and with it the box's init (SetContainerEnv in
// internal/pkg/util/env). HOME pins Apptainer's directory; container= as a plain variable is how systemd learns where it
// runs (https://systemd.io/CONTAINER_INTERFACE), and Apptainer never sets it.
func environment(home string) []string { return append(commonEnvironment(home), "container=apptainer") }

// commonEnvironment is what everything that boxrun runs on the host has in common.
func commonEnvironment(home string) []string {
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=" + home,
		"TERM=linux",
		"LANG=C.UTF-8",
	}
}

// recordPath gives where Apptainer will write the record of the instance (GetDir in internal/pkg/instance).
func recordPath(home, hostname, name string) string {
	return filepath.Join(home, ".apptainer", "instances", "app", hostname, "root", name, name+".json")
}

// logPath gives the instance's .err log, which Apptainer only ever appends to (SetLogFile in internal/pkg/instance).
func logPath(home, hostname, name string) string {
	return filepath.Join(home, ".apptainer", "instances", "logs", hostname, "root", name+".err")
}
