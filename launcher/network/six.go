package network

import (
	"errors"
	"net/netip"
	"slices"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/netsetup"
	"boxrun/netsetup/six"
	"boxrun/profiles"
	"boxrun/profiles/port"
)

// named6 reports whether a person asked for IPv6 by name: by a network, or by an address of IPv6.
func named6(n profiles.Network) bool {
	return n.Subnet6 != "" && n.Subnet6 != profiles.AutoSubnet6 || slices.ContainsFunc(n.Ports, port.Port.Is6) ||
		slices.ContainsFunc(n.DNS, netip.Addr.Is6) ||
		slices.ContainsFunc(n.AllowFrom, func(from netip.Prefix) bool { return from.Addr().Is6() })
}

// refuse6 refuses IPv6 by name on a host with IPv6 that lacks what boxes need for IPv6.
func refuse6(p profiles.Profile) error {
	if why := box.Lacks6(p.Network); why != nil && named6(p.Network) {
		return fault.Refused("install ip6tables, or set subnet6 = \"\" and name no address of IPv6",
			"%s: network.subnet6: the host cannot give boxes IPv6: %v", p.File, why)
	}
	return nil
}

// FourAlone returns the profile with IPv4 alone after an error of ip6tables, and tells of the error. The error stays where
// somebody asked for IPv6 by name: ok is false.
func FourAlone(s *box.Store, p profiles.Profile, why error) (four profiles.Profile, ok bool) {
	if !errors.Is(why, netsetup.ErrIP6tables) || p.Network.Subnet6 == "" || named6(p.Network) {
		return p, false
	}
	s.Notef("%s: has IPv4 alone, the host cannot give boxes IPv6: %v", p.Name, why)
	p.Network.Subnet6 = ""
	return p, true
}

// Follow returns the profile with IPv4 alone where another box on the bridge has IPv4 alone, as boxes of older boxruns do,
// and nobody asked for IPv6 by name: the boxes of a bridge have the same networks. Follow tells of it, and of what the host
// lacks for IPv6.
func Follow(s *box.Store, p profiles.Profile, others []*box.Box) profiles.Profile {
	n := &p.Network
	if n.Mode != profiles.BridgeMode || n.Subnet6 != profiles.AutoSubnet6 || !six.Possible() || named6(*n) {
		return p
	}
	if why := box.Lacks6(*n); why != nil {
		s.Notef("%s: has IPv4 alone, the host cannot give boxes IPv6: %v", p.Name, why)
	}
	for _, b := range others {
		if have := b.Profile.Network; b.Bridged() && have.Bridge == n.Bridge && have.Subnet6 == "" {
			s.Notef("%s: has IPv4 alone, as box %s on bridge %s has", p.Name, b.Name, n.Bridge)
			n.Subnet6 = ""
			return p
		}
	}
	return p
}
