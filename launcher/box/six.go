package box

import (
	"net/netip"

	"boxrun/netsetup/six"
	"boxrun/profiles"
)

// Subnet6 returns the IPv6 network of a bridge: network.subnet6, or a network made from the host's machine-id. The result
// is zero without IPv6, in the profile or on the host.
func Subnet6(n profiles.Network) (netip.Prefix, error) {
	switch {
	case n.Mode != profiles.BridgeMode || n.Subnet6 == "" || !six.Possible():
		return netip.Prefix{}, nil
	case n.Subnet6 == profiles.AutoSubnet6:
		return six.UniqueLocal("/etc", n.Bridge)
	}
	return netip.ParsePrefix(n.Subnet6)
}

// HasIPv6 reports whether boxes of the network have IPv6 on this host.
func HasIPv6(n profiles.Network) bool {
	subnet6, err := Subnet6(n)
	return err == nil && subnet6.IsValid()
}

// Addrs returns the addresses of the box: of IPv4, and of IPv6 where the box has IPv6.
func (b *Box) Addrs() []netip.Addr {
	if six := b.Addr6(); six.IsValid() {
		return []netip.Addr{b.Addr, six}
	}
	return []netip.Addr{b.Addr}
}

// Addr6 returns the IPv6 address of the box, which follows from the IPv4 address; zero without IPv6.
func (b *Box) Addr6() netip.Addr {
	subnet6, err := Subnet6(b.Profile.Network)
	if err != nil || !b.Bridged() {
		return netip.Addr{}
	}
	return six.Beside(b.Profile.Network.Subnet, subnet6, b.Addr)
}
