package profiles

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
)

// parseIPv4 reads an IPv4 address. The error for an IPv6 address names the key that takes one.
func parseIPv4(instead string) func(string) (netip.Addr, error) {
	return func(s string) (netip.Addr, error) {
		ip, err := netip.ParseAddr(s)
		switch {
		case err != nil:
			return netip.Addr{}, errors.New("must be an IPv4 address")
		case !ip.Is4():
			return netip.Addr{}, errors.New("must be an IPv4 address: " + instead)
		}
		return ip, nil
	}
}

// nameServer reads the address of a DNS server that a box can reach.
func nameServer(s string) (netip.Addr, error) {
	ip, err := netip.ParseAddr(s)
	switch {
	case err != nil || ip.Zone() != "" || ip.Is4In6():
		return ip, errors.New("must be an IPv4 or IPv6 address")
	case ip.IsLoopback():
		return ip, errors.New("must not be loopback, which inside a box is the box itself")
	case ip.IsUnspecified() || ip.IsMulticast() || ip.Is6() && ip.IsLinkLocalUnicast():
		return ip, errors.New("must be the address of one server")
	}
	return ip, nil
}

// wholeNetwork refuses an address with bits set behind the prefix length: either half could be the mistake.
func wholeNetwork(p netip.Prefix) error {
	if p != p.Masked() {
		return fmt.Errorf("has bits set behind its prefix length, its network is %q", p.Masked())
	}
	return nil
}

// clients reads who may reach the ports: a network, or a single address, of either family.
func clients(s string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p, wholeNetwork(p)
	}
	ip, err := netip.ParseAddr(s)
	if err != nil || ip.Zone() != "" {
		return netip.Prefix{}, errors.New("must be an address, or a network such as \"192.0.2.0/24\"")
	}
	return netip.PrefixFrom(ip, ip.BitLen()), nil
}

// boxSubnet reads a network for boxes. The network must have room for a bridge and a few boxes, and must not overlap a
// special range of RFC 6890.
func boxSubnet(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return netip.Prefix{}, errors.New("must be an IPv4 network, such as \"10.22.0.0/16\"")
	case !p.Addr().Is4():
		return netip.Prefix{}, errors.New("must be an IPv4 network: subnet6 has the network of IPv6 beside it")
	case p != p.Masked():
		return netip.Prefix{}, wholeNetwork(p)
	case p.Bits() < 8 || p.Bits() > 29:
		return netip.Prefix{}, errors.New("must have a prefix length from 8 to 29")
	}
	for _, special := range []struct{ prefix, what string }{
		{"0.0.0.0/8", "\"this network\""},
		{"127.0.0.0/8", "loopback"},
		{"169.254.0.0/16", "link-local"},
		{"224.0.0.0/4", "multicast"},
		{"240.0.0.0/4", "reserved"},
	} {
		if p.Overlaps(netip.MustParsePrefix(special.prefix)) {
			return netip.Prefix{}, fmt.Errorf("must not overlap %s, which is %s", special.prefix, special.what)
		}
	}
	return p, nil
}

// AutoSubnet6 stands for a network that the host makes up, where the host can give boxes IPv6.
const AutoSubnet6 = "auto"

// boxSubnet6 reads an IPv6 network for boxes: nothing, auto, or a network of global or unique local addresses. A box has
// the same place there as in the subnet of IPv4, so 32 bits must be left.
func boxSubnet6(s string) (string, error) {
	if s == "" || s == AutoSubnet6 {
		return s, nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || !p.Addr().Is6() {
		return "", errors.New("must be \"auto\", \"\" or an IPv6 network, such as \"fd12:3456:789a::/64\"")
	}
	if err := wholeNetwork(p); err != nil {
		return "", err
	}
	if p.Bits() < 48 || p.Bits() > 96 {
		return "", errors.New("must have a prefix length from 48 to 96")
	}
	global, local := netip.MustParsePrefix("2000::/3"), netip.MustParsePrefix("fc00::/7")
	if !global.Contains(p.Addr()) && !local.Contains(p.Addr()) {
		return "", fmt.Errorf("must lie in %s, unique local addresses, or in %s, global ones", local, global)
	}
	return p.String(), nil
}

// last returns the broadcast address of an IPv4 network.
func last(p netip.Prefix) netip.Addr {
	ip := p.Masked().Addr().As4()
	binary.BigEndian.PutUint32(ip[:], binary.BigEndian.Uint32(ip[:])|math.MaxUint32>>p.Bits())
	return netip.AddrFrom4(ip)
}
