package network

import (
	"net/netip"
	"strings"

	"boxrun/launcher/box"
	"boxrun/launcher/list"
	"boxrun/profiles"
)

// Exposure says, for each port of a box, who can reach the port.
func Exposure(b *box.Box) []string {
	n := b.Profile.Network
	lines := make([]string, len(n.Ports))
	for i, p := range n.Ports {
		if b.Bridged() {
			lines[i] = p.String() + " " + exposed(n, p)
		} else {
			lines[i] = b.ShownPort(p) + " in the host's own network: the host's firewall decides who reaches it"
		}
	}
	return lines
}

// exposed says who can reach a port of a box on a bridge.
func exposed(n profiles.Network, p profiles.Port) string {
	where := "on ALL addresses of the host"
	switch {
	case p.HostIP.IsLoopback():
		return "from this host only"
	case p.HostIP.IsValid():
		where = "on that address"
	case n.External != "":
		where = "on the addresses of " + n.External
	}
	if len(n.AllowFrom) > 0 {
		return where + ", for " + strings.Join(list.Map(n.AllowFrom, netip.Prefix.String), ", ") + " only"
	}
	return where + ", for anyone who can route to it"
}
