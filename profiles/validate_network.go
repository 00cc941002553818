package profiles

import (
	"errors"
	"net/netip"
	"slices"

	"boxrun/profiles/port"
)

// decode reads [network].
func (n *Network) decode(s *section) {
	take(s, "mode", &n.Mode, text(choice(BridgeMode, LANMode, HostMode, NoneMode)))
	take(s, "bridge", &n.Bridge, text(bridgeName))
	take(s, "subnet", &n.Subnet, text(boxSubnet))
	take(s, "subnet6", &n.Subnet6, text(boxSubnet6))
	take(s, "mtu", &n.MTU, whole(checkMTU))
	take(s, "ip", &n.IP, text(optional(parseIPv4("subnet6 gives the box one of IPv6 beside it"))))
	take(s, "external", &n.External, text(optional(deviceName)))
	take(s, "ports", &n.Ports, texts(port.Parse))
	take(s, "allow_from", &n.AllowFrom, texts(clients))
	take(s, "dns", &n.DNS, texts(nameServer))
	take(s, "search", &n.Search, texts(domainName))
	take(s, "dns_options", &n.DNSOptions, texts(resolverOption))
	take(s, "offload", &n.Offload, text(choice("auto", "off", "off-out", "off-both", "keep")))
	take(s, "metadata", &n.Metadata, text(choice("deny", "allow")))
	take(s, "marks", &n.Marks, text(ParseMarks))
	take(s, "parent", &n.Parent, text(optional(deviceName)))
	take(s, "address", &n.Address, text(optional(addressOnLAN)))
	take(s, "gateway", &n.Gateway, text(optional(parseIPv4("gateway6 is that of IPv6"))))
	take(s, "address6", &n.Address6, text(optional(addressOnLAN6)))
	take(s, "gateway6", &n.Gateway6, text(optional(routerOnLAN6)))
	n.checkIP(s)
	n.checkPorts(s)
	n.checkFamilies(s)
	n.checkMode(s)
	n.checkLAN(s)
}

// checkMode refuses keys about a bridge where the box has no bridge. A key with its default value passes, as "profile
// show" prints every key.
func (n *Network) checkMode(s *section) {
	if n.Mode == BridgeMode || !s.valid("mode") {
		return
	}
	usual := Default().Network
	n.senseless(s, "bridge", n.Bridge != usual.Bridge, "it names the bridge the box is on")
	n.senseless(s, "subnet", n.Subnet != usual.Subnet, "it is that of the bridge")
	n.senseless(s, "subnet6", n.Subnet6 != usual.Subnet6, "it is that of the bridge")
	n.senseless(s, "mtu", n.MTU != usual.MTU, "it is that of the bridge")
	n.senseless(s, "ip", n.IP != usual.IP, n.reason("the box has no address of its own", "network.address is that of the box"))
	n.senseless(s, "external", n.External != usual.External, "nothing is published")
	n.senseless(s, "allow_from", len(n.AllowFrom) > 0,
		n.reason("nothing is published, the host's own firewall decides", "nothing is published, a firewall in the box decides"))
	n.senseless(s, "offload", n.Offload != usual.Offload, "the box has no devices on the host")
	n.senseless(s, "metadata", n.Metadata != usual.Metadata, "no rule stands between the box and the host's network")
	n.senseless(s, "marks", n.Marks != usual.Marks, "it is that of the bridge")
	if n.Mode == HostMode {
		n.checkHostPorts(s)
		return
	}
	n.senseless(s, "ports", len(n.Ports) > 0, n.reason("nobody reaches the box", "the LAN reaches every port of the box as it is"))
	if n.Mode == LANMode {
		return
	}
	n.senseless(s, "dns", len(n.DNS) > 0, "the box reaches nobody")
	n.senseless(s, "search", len(n.Search) > 0, "the box reaches nobody")
	n.senseless(s, "dns_options", len(n.DNSOptions) > 0, "the box reaches nobody")
}

// senseless refuses a key that differs from its default (set) and has no meaning in this mode.
func (n *Network) senseless(s *section, key string, set bool, why string) {
	if set && s.valid(key) {
		s.refuse(key, "means nothing with mode = %q: %s", n.Mode, why)
	}
}

// checkHostPorts refuses ports that differ inside and outside: in the host's network both are the same port.
func (n *Network) checkHostPorts(s *section) {
	for i, p := range n.Ports {
		if p.Host != p.Container && s.valid(at("ports", i)) {
			s.refuse(at("ports", i), "must be the same port inside and outside with mode = %q, got %q", n.Mode, p)
		}
	}
}

// checkMTU checks an MTU in bytes; 0 means the default. The minimum is the least MTU of IPv6 (RFC 8200 section 5).
// Below the minimum the kernel removes IPv6 from the device, and no network in use is that narrow. The maximum is the
// kernel's ETH_MAX_MTU.
func checkMTU(n int64) (int, error) {
	if n != 0 && (n < 1280 || n > 65535) {
		return 0, errors.New("must be 0 or 1280 to 65535")
	}
	return int(n), nil
}

// checkIP refuses a fixed address that a box on the subnet cannot have.
func (n *Network) checkIP(s *section) {
	if !n.IP.IsValid() || !s.valid("ip", "subnet") {
		return
	}
	switch {
	case n.IP == n.Subnet.Addr():
		s.refuse("ip", "must not be the address of the subnet itself, got %q", n.IP)
	case n.IP == n.Subnet.Addr().Next():
		s.refuse("ip", "must not be the first of the subnet, which is the bridge's, got %q", n.IP)
	case n.IP == last(n.Subnet):
		s.refuse("ip", "must not be the subnet's broadcast address, got %q", n.IP)
	case !n.Subnet.Contains(n.IP):
		s.refuse("ip", "must be in the subnet %s, got %q", n.Subnet, n.IP)
	}
}

// checkFamilies refuses ports, clients and name servers of IPv6 for a box without.
func (n *Network) checkFamilies(s *section) {
	refuse := func(key string, i int, six bool, got any) {
		if six && n.Subnet6 == "" && s.valid("subnet6", at(key, i)) {
			s.refuse(at(key, i), "is of IPv6, which the box lacks with subnet6 = \"\", got %q", got)
		}
	}
	for i, p := range n.Ports {
		refuse("ports", i, p.Is6(), p)
	}
	for i, from := range n.AllowFrom {
		refuse("allow_from", i, from.Addr().Is6(), from)
	}
	for i, server := range n.DNS {
		refuse("dns", i, server.Is6() && n.Mode == BridgeMode, server)
	}
}

// PortsFor returns the ports published for a box at an address of either family: on addresses of that family, be it
// beside others.
func (n *Network) PortsFor(box netip.Addr) []port.Port {
	return slices.DeleteFunc(slices.Clone(n.Ports), func(p port.Port) bool {
		return p.HostIP.IsValid() && p.Is6() != box.Is6() || p.Only4 && box.Is6()
	})
}

// AllowFor returns the networks of the family of an address that may reach the ports.
func (n *Network) AllowFor(box netip.Addr) []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(n.AllowFrom), func(p netip.Prefix) bool { return p.Addr().Is6() != box.Is6() })
}

// checkPorts refuses ports of the host that are published twice.
func (n *Network) checkPorts(s *section) {
	for i, p := range n.Ports {
		for j, earlier := range n.Ports[:i] {
			if port, ok := p.Overlap(earlier); ok {
				s.refuse(at("ports", i), "host port %d/%s is taken by ports[%d]", port, p.Proto, j)
				break
			}
		}
	}
}
