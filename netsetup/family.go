package netsetup

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"

	"boxrun/netsetup/rules"
	"boxrun/netsetup/six"

	"golang.org/x/sys/unix"
)

// family is IPv4 or IPv6, called by the tool for its rules.
type family string

const (
	v4 family = "iptables"
	v6 family = "ip6tables"
)

// arriving narrows what may be for a published port as it arrives: what is for loopback is not.
func (f family) arriving() string {
	if f == v6 {
		return "! -d ::1 "
	}
	return "! -d 127.0.0.0/8 "
}

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

// inet is the kernel's number of the family.
func (f family) inet() int {
	if f == v6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// familyOf returns the family of an address.
func familyOf(a netip.Addr) family {
	if a.Is6() {
		return v6
	}
	return v4
}

// families returns the families whose rules the host can have.
func families() []family {
	if hasIP6tables() {
		return []family{v4, v6}
	}
	return []family{v4}
}

// hasIP6tables reports whether the host has the tools for rules of IPv6, and a kernel that may have such rules.
func hasIP6tables() bool {
	_, absent := os.Stat("/proc/sys/net/ipv6")
	return LacksIP6tables() == nil && absent == nil
}

// ErrIP6tables is in the chain of an error of ip6tables where iptables has none: the kernel may be without the tables.
var ErrIP6tables = errors.New("ip6tables failed")

// of6 is an error with ErrIP6tables in its chain, in the words of the error.
type of6 struct{ error }

func (e of6) Unwrap() []error { return []error{e.error, ErrIP6tables} }

// LacksIP6tables returns an error where the tools for rules of IPv6 are not installed.
func LacksIP6tables() error {
	for _, name := range []string{"-save", "-restore"} {
		if _, err := exec.LookPath(string(v6) + name); err != nil {
			return fmt.Errorf("no %s in %s", string(v6)+name, os.Getenv("PATH"))
		}
	}
	return nil
}

// Gateway6 returns the bridge's own IPv6 address; zero without a Subnet6.
func (n Network) Gateway6() netip.Addr { return six.Beside(n.Subnet, n.Subnet6, n.Gateway()) }

// subnet returns the network's addresses in a family.
func (n Network) subnet(f family) netip.Prefix {
	if f == v6 {
		return n.Subnet6
	}
	return n.Subnet
}

// Addr6 returns the box's IPv6 address; zero without a Subnet6.
func (b Box) Addr6() netip.Addr { return six.Beside(b.Subnet, b.Subnet6, b.Addr) }

// six returns the box as its rules for IPv6 see the box.
func (b Box) six() Box {
	b.Addr, b.Subnet = b.Addr6(), b.Subnet6
	return b
}
