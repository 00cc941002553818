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
		return p, errors.New("must be an IPv4 address: address6 is that of IPv6")
	case p.Bits() < 8 || p.Bits() > 30:
		return p, errors.New("must have a prefix length from 8 to 30")
	case p.Addr().IsLoopback() || p.Addr().IsMulticast() || p.Addr().IsUnspecified():
		return p, errors.New("must be the address of one box")
	case p.Addr() == p.Masked().Addr() || p.Addr() == last(p.Masked()):
		return p, errors.New("must not be the network's own address or its broadcast address")
	}
	return p, nil
}

// addressOnLAN6 is addressOnLAN for IPv6.
func addressOnLAN6(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	switch a := p.Addr(); {
	case err != nil || !a.Is6() || a.Is4In6():
		return p, errors.New("must be an IPv6 address with the length of its network, such as \"2001:db8::50/64\"")
	case p.Bits() < 16 || p.Bits() > 127:
		return p, errors.New("must have a prefix length from 16 to 127")
	case a.IsLoopback() || a.IsMulticast() || a.IsLinkLocalUnicast() || a == p.Masked().Addr():
		return p, errors.New("must be the address of one box, for others")
	}
	return p, nil
}

// routerOnLAN6 reads the IPv6 address of a router, which may be that of its link.
func routerOnLAN6(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is6() || a.Is4In6() || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() {
		return a, errors.New("must be the IPv6 address of a router, such as \"fe80::1\"")
	}
	return a, nil
}

// OnLAN reports whether the box has an address on a LAN of the host, as its only network or beside a bridge.
func (n *Network) OnLAN() bool { return n.Mode == LANMode || n.Mode == BridgeMode && n.Parent != "" }

// checkLAN refuses keys about the LAN for a box elsewhere, a gateway that the box cannot reach, and a LAN that is the bridge.
func (n *Network) checkLAN(s *section) {
	if !s.valid("mode", "parent", "address", "gateway", "address6", "gateway6") {
		return
	}
	if !n.OnLAN() {
		n.senseless(s, "parent", n.Parent != "", "it names the device of the LAN")
		n.nowhere(s, "address", n.Address.IsValid())
		n.nowhere(s, "gateway", n.Gateway.IsValid())
		n.nowhere(s, "address6", n.Address6.IsValid())
		n.nowhere(s, "gateway6", n.Gateway6.IsValid())
		return
	}
	if n.Mode == BridgeMode {
		n.checkBeside(s)
	}
	checkGateway(s, "gateway", "network.address: without, a DHCP client in the box asks for both", n.Gateway, n.Address)
	checkGateway(s, "gateway6", "network.address6: without, the box asks routers for both", n.Gateway6, n.Address6)
}

// checkGateway refuses a gateway for which the box has no address by the profile, or that the box cannot reach from there.
func checkGateway(s *section, key, needs string, gateway netip.Addr, own netip.Prefix) {
	switch {
	case !gateway.IsValid():
	case !own.IsValid():
		s.refuse(key, "needs %s", needs)
	case gateway == own.Addr():
		s.refuse(key, "must be another address than that of the box, got %q", gateway)
	case !own.Contains(gateway) && (gateway.Is4() || !gateway.IsLinkLocalUnicast()):
		s.refuse(key, "must be in the network of the address %s, got %q", own, gateway)
	}
}

// nowhere refuses a key about an address on the LAN for a box that is on none.
func (n *Network) nowhere(s *section, key string, set bool) {
	switch {
	case !set:
	case n.Mode == BridgeMode:
		s.refuse(key, "is that on a LAN beside the bridge, and needs network.parent, the host's device there")
	default:
		n.senseless(s, key, set, "it is that on the LAN")
	}
}

// checkBeside refuses a LAN that is the box's bridge, and an address on the LAN that the box would look for on the bridge.
func (n *Network) checkBeside(s *section) {
	if n.Parent == n.Bridge {
		s.refuse("parent", "must be another device than the bridge of the box, got %q", n.Parent)
	}
	if n.Address.IsValid() && n.Address.Overlaps(n.Subnet) && s.valid("subnet") {
		s.refuse("address", "must be of another network than the subnet %s of the bridge, got %q", n.Subnet, n.Address)
	}
	subnet6, err := netip.ParsePrefix(n.Subnet6) // "auto" and "" are no networks
	if err == nil && n.Address6.IsValid() && n.Address6.Overlaps(subnet6) && s.valid("subnet6") {
		s.refuse("address6", "must be of another network than the subnet6 %s of the bridge, got %q", subnet6, n.Address6)
	}
}

// reason returns why a key means nothing: onLAN for a box on the LAN, elsewhere in the other modes.
func (n *Network) reason(elsewhere, onLAN string) string {
	if n.Mode == LANMode {
		return onLAN
	}
	return elsewhere
}
