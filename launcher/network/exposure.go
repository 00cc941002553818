package network

import (
	"boxrun/launcher/box"
)

// Exposure says, for each port, who can reach the port.
func Exposure(b *box.Box) []string {
	n := b.Profile.Network
	lines := make([]string, len(n.Ports))
	for i, p := range n.Ports {
		if !b.Bridged() {
			lines[i] = b.ShownPort(p) + " in the host's own network: the host's firewall decides who reaches it"
			continue
		}
		lines[i] = p.String() + " " + exposedTo(n.External, p.HostIP.IsValid(), p.HostIP.IsLoopback(), len(n.AllowFrom) > 0)
	}
	return lines
}

// exposedTo says who can reach a port of a box on a bridge. bound means a port with its own host address, restricted a
// profile with allow_from.
func exposedTo(external string, bound, loopback, restricted bool) string {
	where := "on ALL addresses of the host"
	switch {
	case loopback:
		return "from this host only"
	case bound:
		where = "on that address"
	case external != "":
		where = "on the addresses of " + external
	}
	if restricted {
		return where + ", for allow_from only"
	}
	return where + ", for anyone who can route to it"
}
