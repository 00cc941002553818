package network

import (
	"os"
	"slices"
	"strings"

	"boxrun/launcher/fault"
	"boxrun/netsetup"
	"boxrun/netsetup/site"
	"boxrun/profiles"
	"boxrun/profiles/port"
)

// RefuseSCTP refuses ports of SCTP on a host whose kernel neither has SCTP nor finds SCTP among its modules, and where a line
// of modprobe.d(5) has the module not loaded: no program in a box could listen there. The look loads nothing. Error:
// ErrRefused.
func RefuseSCTP(p profiles.Profile) error {
	i := slices.IndexFunc(p.Network.Ports, func(port port.Port) bool { return port.Proto == "sctp" })
	if i < 0 || hasProtocol("SCTP") {
		return nil
	}
	found, err := netsetup.ModuleOnDisk("sctp")
	if err != nil {
		return err
	}
	if found {
		return refuseWithheld(p, i)
	}
	return fault.Refused("install the kernel's module sctp: on Enterprise Linux it is in kernel-modules-extra",
		"%s: network.ports[%d]: %s: this host's kernel has no SCTP", p.File, i, p.Network.Ports[i])
}

// refuseWithheld refuses the i-th port where modprobe loads nothing for a module that rules or sockets of SCTP need.
func refuseWithheld(p profiles.Profile, i int) error {
	for _, module := range []string{"sctp", "xt_sctp"} {
		line, err := site.Withheld("/", module)
		if err != nil {
			return err
		}
		if line != "" {
			return fault.Refused("delete that line, or publish no port of SCTP",
				"%s: network.ports[%d]: %s: this host does not load the kernel's module %s, by %s", p.File, i, p.Network.Ports[i], module, line)
		}
	}
	return nil
}

// hasProtocol reports whether the kernel has a protocol now, as /proc/net/protocols names it.
func hasProtocol(name string) bool {
	text, err := os.ReadFile("/proc/net/protocols")
	return err == nil && slices.ContainsFunc(strings.Split(string(text), "\n"), func(line string) bool {
		return strings.HasPrefix(line, name+" ")
	})
}
