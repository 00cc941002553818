package netsetup

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"boxrun/netsetup/rules"
)

// family is IPv4 or IPv6, called by the tool for its rules.
type family string

const (
	v4 family = "iptables"
	v6 family = "ip6tables"
)

// loopback is the network of addresses that each host has for itself.
func (f family) loopback() string {
	if f == v6 {
		return "::1"
	}
	return "127.0.0.0/8"
}

// arriving narrows what may be for a published port as it arrives.
func (f family) arriving() string { return "! -d " + f.loopback() + " " }

// leaving narrows what of the host itself may be for a published port. The host's own ::1 is never translated: no answer
// of a box would find the way back, as IPv6 has no setting like route_localnet. A client that is refused at ::1 goes on to
// 127.0.0.1 at once.
func (f family) leaving() string { return rules.WordsIf(f == v6, "%s", f.arriving()) }

// tracked narrows packets in the state INVALID to packets that connection tracking has to place: neighbour discovery of
// IPv6 passes the rules, too, where bridged frames pass them.
func (f family) tracked() string { return rules.WordsIf(f == v6, "! -p ipv6-icmp ") }

// metadata are the addresses where clouds serve the data of instances.
func (f family) metadata() []string {
	if f == v6 {
		return []string{"fd00:ec2::254", "fd20:ce::254"}
	}
	return []string{"169.254.169.254"}
}

// familyOf returns the family of an address.
func familyOf(a netip.Addr) family {
	if a.Is6() {
		return v6
	}
	return v4
}

// hasIP6tables reports whether the host has the tools for rules of IPv6, and a kernel that may have such rules.
func hasIP6tables() bool {
	_, err := exec.LookPath(string(v6) + "-save")
	_, absent := os.Stat("/proc/sys/net/ipv6")
	return err == nil && absent == nil
}

// HasIPv6 reports whether the host uses IPv6 and devices to come will: the kernel may be without, or all of IPv6 may be
// turned off.
func HasIPv6() bool {
	return !slices.ContainsFunc([]string{"all", "default"}, func(device string) bool {
		off, err := readSysctl(deviceKey6(device, "disable_ipv6"))
		return err != nil || off != "0"
	})
}

// UniqueLocal returns the network of unique local addresses (RFC 4193) of a bridge: the same on every day, and another on
// each machine. etc has machine-id, which the network does not disclose.
func UniqueLocal(etc, bridge string) (netip.Prefix, error) {
	id, err := os.ReadFile(filepath.Join(etc, "machine-id"))
	if err != nil {
		return netip.Prefix{}, err
	}
	if len(strings.TrimSpace(string(id))) != 32 {
		return netip.Prefix{}, fmt.Errorf("%s has no id", filepath.Join(etc, "machine-id"))
	}
	sum := sha256.Sum256([]byte("boxrun " + strings.TrimSpace(string(id)) + " " + bridge))
	addr := [16]byte{0: 0xfd}
	copy(addr[1:8], sum[:])
	return netip.PrefixFrom(netip.AddrFrom16(addr), 64), nil
}

// Beside returns the IPv6 address that goes with an IPv4 address: the same place in subnet6 as addr has in subnet. The
// result is zero without a subnet6.
func Beside(subnet, subnet6 netip.Prefix, addr netip.Addr) netip.Addr {
	if !subnet6.IsValid() || !addr.Is4() {
		return netip.Addr{}
	}
	base, a := subnet.Addr().As4(), addr.As4()
	place := binary.BigEndian.Uint32(a[:]) - binary.BigEndian.Uint32(base[:])
	out := subnet6.Addr().As16()
	binary.BigEndian.PutUint32(out[12:], binary.BigEndian.Uint32(out[12:])+place)
	return netip.AddrFrom16(out)
}

// Gateway6 returns the bridge's own IPv6 address; zero without a Subnet6.
func (n Network) Gateway6() netip.Addr { return Beside(n.Subnet, n.Subnet6, n.Gateway()) }

// subnet returns the network's addresses in a family.
func (n Network) subnet(f family) netip.Prefix {
	if f == v6 {
		return n.Subnet6
	}
	return n.Subnet
}

// Addr6 returns the box's IPv6 address; zero without a Subnet6.
func (b Box) Addr6() netip.Addr { return Beside(b.Subnet, b.Subnet6, b.Addr) }

// six returns the box as its rules for IPv6 see the box.
func (b Box) six() Box {
	b.Addr, b.Subnet = b.Addr6(), b.Subnet6
	return b
}
