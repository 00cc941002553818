package profiles

import "errors"

// decode reads [network].
func (n *Network) decode(s *section) {
	one(s, "mode", &n.Mode, choice("bridge", "host", "none"))
	s.later("mode", n.Mode != "bridge")
	one(s, "bridge", &n.Bridge, bridgeName)
	one(s, "subnet", &n.Subnet, boxSubnet)
	whole(s, "mtu", &n.MTU, checkMTU)
	one(s, "ip", &n.IP, optional(parseIPv4))
	one(s, "external", &n.External, optional(deviceName))
	many(s, "ports", &n.Ports, ParsePort)
	many(s, "allow_from", &n.AllowFrom, clients)
	many(s, "dns", &n.DNS, nameServer)
	many(s, "search", &n.Search, domainName)
	one(s, "offload", &n.Offload, choice("off", "keep"))
	n.checkIP(s)
	n.checkPorts(s)
}

// checkMTU takes 0 for the default. The least is what IPv6 can live with (RFC 8200 section 5): below it the kernel takes
// IPv6 off the device, and no network in use is that narrow. The most is the kernel's ETH_MAX_MTU.
func checkMTU(n int64) error {
	if n != 0 && (n < 1280 || n > 65535) {
		return errors.New("must be 0 or 1280 to 65535")
	}
	return nil
}

// checkIP refuses a fixed address that a box on the subnet cannot have.
func (n *Network) checkIP(s *section) {
	if !n.IP.IsValid() || !s.valid("ip", "subnet") {
		return
	}
	switch n.IP {
	case n.Subnet.Addr():
		s.refuse("ip", "must not be the address of the subnet itself, got %q", n.IP)
	case n.Subnet.Addr().Next():
		s.refuse("ip", "must not be the first of the subnet, which is the bridge's, got %q", n.IP)
	case last(n.Subnet):
		s.refuse("ip", "must not be the subnet's broadcast address, got %q", n.IP)
	default:
		if !n.Subnet.Contains(n.IP) {
			s.refuse("ip", "must be in the subnet %s, got %q", n.Subnet, n.IP)
		}
	}
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
