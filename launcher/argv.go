package launcher

import (
	"net/netip"
	"path/filepath"

	"boxrun/profiles"
)

// start is all that the command line of one start depends on.
type start struct {
	Conf    string // the apptainer.conf that finds boxrun's conflists
	Profile profiles.Profile
	Image   string // as Apptainer is given it: for a builtin image its sandbox
	Network string // CNI network
	Addr    netip.Addr
	Binds   []string // boxrun's own, in Apptainer's SRC:DST[:ro]; the profile's come after them
}

// argv gives the command that starts the box. --no-home keeps the image's own /root, which Apptainer would hide
// (facts 2.7). systemd gets the whole cgroup tree, as /proc/self/cgroup is not namespaced (facts 2.19).
func (s start) argv() []string {
	p := s.Profile
	argv := []string{"apptainer", "-c", s.Conf, "instance", "start", "--boot",
		"--net", "--network", s.Network, "--network-args", "IP=" + s.Addr.String(),
		"--hostname", p.Hostname, "--no-home"}
	argv = append(argv, rootFlags(p.Storage)...)
	argv = append(argv, "--bind", "/sys/fs/cgroup")
	for _, b := range s.Binds {
		argv = append(argv, "--bind", b)
	}
	for _, b := range p.Storage.Binds {
		argv = append(argv, "--bind", bindFlag(b))
	}
	argv = append(argv, p.Apptainer.Args...)
	return append(argv, s.Image, p.Name)
}

// rootFlags gives the writable layer: none is Apptainer's default, a read-only root (facts 2.11).
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

// environment is all that Apptainer's command line gets of ours, and with it the box's init (facts 2.14). HOME pins
// Apptainer's directory; container= as a plain variable is how systemd learns where it runs (facts 2.16).
func environment(home string) []string {
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=" + home,
		"TERM=linux",
		"LANG=C.UTF-8",
		"container=apptainer",
	}
}

// recordPath gives where Apptainer will write the record of the instance (facts 1.7).
func recordPath(home, hostname, name string) string {
	return filepath.Join(home, ".apptainer", "instances", "app", hostname, "root", name, name+".json")
}

// logPath gives the instance's .err log, which Apptainer only ever appends to (facts 1.7).
func logPath(home, hostname, name string) string {
	return filepath.Join(home, ".apptainer", "instances", "logs", hostname, "root", name+".err")
}
