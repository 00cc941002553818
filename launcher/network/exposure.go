package network

import (
	"net/netip"
	"slices"
	"strings"

	"boxrun/launcher/box"
	"boxrun/launcher/list"
	"boxrun/netsetup"
	"boxrun/netsetup/rules"
	"boxrun/netsetup/six"
	"boxrun/profiles"
	"boxrun/profiles/port"
)

// Exposure says, for each port of a box, who can reach the port.
func Exposure(b *box.Box) []string {
	n, alone := b.Profile.Network, onlyLoopback(b.Profile.Network)
	lines := make([]string, len(n.Ports))
	for i, p := range n.Ports {
		if b.Bridged() {
			lines[i] = p.String() + " " + exposed(n, p, alone)
		} else {
			lines[i] = b.ShownPort(p) + " in the host's own network: the host's firewall decides who reaches it"
		}
	}
	return lines
}

// onlyLoopback reports whether the host has no IPv4 address for others: none but its 127.0.0.1 and the bridge's. A box
// with IPv6 has others on IPv6 as well. Where the addresses cannot be read, the host counts as any other.
func onlyLoopback(n profiles.Network) bool {
	addrs, err := netsetup.LocalAddrs()
	if box.HasIPv6(n) {
		addrs, err = netsetup.AllLocalAddrs()
	}
	shared := netsetup.Network{Subnet: n.Subnet, Subnet6: box.Subnet6(n)}
	own := []netip.Addr{shared.Gateway(), shared.Gateway6()}
	return err == nil && !slices.ContainsFunc(addrs, func(a netip.Addr) bool {
		return !a.IsLoopback() && !a.IsLinkLocalUnicast() && !slices.Contains(own, a)
	})
}

// exposed says who can reach a port of a box on a bridge. alone: the host has no address for others.
func exposed(n profiles.Network, p port.Port, alone bool) string {
	where, only4 := "on ALL addresses of the host", p.Only4 && n.Subnet6 != ""
	switch {
	case p.HostIP.IsLoopback():
		return "from this host only"
	case !p.HostIP.IsValid() && n.External == "" && alone:
		return "from this host only: it has no other " + rules.WordsIf(!box.HasIPv6(n), "IPv4 ") + "address"
	case p.Is6() && p.HostIP.IsUnspecified():
		where = "on ALL IPv6 addresses of the host"
	case p.HostIP.IsValid():
		where = "on that address"
	case n.External != "":
		where = "on the " + rules.WordsIf(only4, "IPv4 ") + "addresses of " + n.External
	case only4, !box.HasIPv6(n) && six.Possible():
		where = "on ALL IPv4 addresses of the host"
	}
	if len(n.AllowFrom) > 0 {
		return where + ", for " + strings.Join(list.Map(n.AllowFrom, netip.Prefix.String), ", ") + " only"
	}
	return where + ", for anyone who can route to it"
}
