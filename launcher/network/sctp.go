package network

import (
	"os"
	"slices"
	"strings"

	"boxrun/launcher/fault"
	"boxrun/netsetup"
	"boxrun/profiles"
	"boxrun/profiles/port"
)

// RefuseSCTP refuses ports of SCTP on a host whose kernel neither has SCTP nor finds SCTP among its modules: no program in
// a box could listen there. The look loads nothing. Error: ErrRefused.
func RefuseSCTP(p profiles.Profile) error {
	i := slices.IndexFunc(p.Network.Ports, func(port port.Port) bool { return port.Proto == "sctp" })
	if i < 0 || hasProtocol("SCTP") {
		return nil
	}
	if found, err := netsetup.ModuleOnDisk("sctp"); found || err != nil {
		return err
	}
	return fault.Refused("install the kernel's module sctp: on Enterprise Linux it is in kernel-modules-extra",
		"%s: network.ports[%d]: %s: this host's kernel has no SCTP", p.File, i, p.Network.Ports[i])
}

// hasProtocol reports whether the kernel has a protocol now, as /proc/net/protocols names it.
func hasProtocol(name string) bool {
	text, err := os.ReadFile("/proc/net/protocols")
	return err == nil && slices.ContainsFunc(strings.Split(string(text), "\n"), func(line string) bool {
		return strings.HasPrefix(line, name+" ")
	})
}
