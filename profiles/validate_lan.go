package profiles

import (
	"errors"
	"net/netip"
)

// addressOnLAN reads the IPv4 address of a box on a network of the host, with the length of the network.
func addressOnLAN(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return p, errors.New("must be an address with the length of its network, such as \"192.0.2.50/24\"")
	case !p.Addr().Is4():
		return p, errIPv6
	case p.Bits() < 8 || p.Bits() > 30:
		return p, errors.New("must have a prefix length from 8 to 30")
	case p.Addr().IsLoopback() || p.Addr().IsMulticast() || p.Addr().IsUnspecified():
		return p, errors.New("must be the address of one box")
	case p.Addr() == p.Masked().Addr() || p.Addr() == last(p.Masked()):
		return p, errors.New("must not be the network's own address or its broadcast address")
	}
	return p, nil
}

// checkLAN refuses keys about the LAN in other modes, and a gateway that the box cannot reach.
func (n *Network) checkLAN(s *section) {
	if !s.valid("mode", "address", "gateway") {
		return
	}
	if n.Mode != LANMode {
		n.senseless(s, "parent", n.Parent != "", "it names the device of the LAN")
		n.senseless(s, "address", n.Address.IsValid(), "it is that on the LAN")
		n.senseless(s, "gateway", n.Gateway.IsValid(), "it is that of the LAN")
		return
	}
	switch {
	case !n.Gateway.IsValid():
	case !n.Address.IsValid():
		s.refuse("gateway", "needs network.address: without, a DHCP client in the box asks for both")
	case n.Gateway == n.Address.Addr():
		s.refuse("gateway", "must be another address than that of the box, got %q", n.Gateway)
	case !n.Address.Contains(n.Gateway):
		s.refuse("gateway", "must be in the network of the address %s, got %q", n.Address, n.Gateway)
	}
}

// reason returns why a key means nothing: onLAN for a box on the LAN, elsewhere in the other modes.
func (n *Network) reason(elsewhere, onLAN string) string {
	if n.Mode == LANMode {
		return onLAN
	}
	return elsewhere
}
