package port

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Port publishes Count consecutive ports of the host, from Host on, as ports of the box from Container on.
type Port struct {
	HostIP    netip.Addr `json:"host_ip"` // zero: every address of the host
	Host      uint16     `json:"host"`
	Container uint16     `json:"container"`
	Count     uint16     `json:"count"`           // 1 for a single port
	Proto     string     `json:"proto"`           // tcp | udp | sctp
	Only4     bool       `json:"only4,omitempty"` // of every address of the host, those of IPv4 alone
}

// Parse reads a published port in any of these forms:
//
//	[[ip:]host:]container[/proto]    podman's, each port a number or a range; "80" is 80:80
//	tcp:8080:80, udp:53              systemd-nspawn's
//	8080:80/tcp                      Apptainer's
//	[2001:db8::1]:8080:80            an IPv6 address of the host, [::] for all of them
//	127.0.0.1:8080->80/tcp           as printed by Port.String, docker ps and podman ps
//
// The protocol is tcp by default. Without an address it is every address of the host, with 0.0.0.0 every IPv4 address;
// localhost means 127.0.0.1. The error states the broken rule, without s.
func Parse(s string) (Port, error) {
	rest, proto, err := cutProto(strings.Replace(s, "->", ":", 1))
	if err != nil {
		return Port{}, err
	}
	only4 := strings.HasPrefix(s, "0.0.0.0:") && !strings.Contains(s, "->") // an arrow has what was printed, for any address
	ip, rest, err := cutHostIP(rest)
	if err != nil {
		return Port{}, err
	}
	host, container, both := strings.Cut(rest, ":")
	if !both {
		container = host
	}
	from, err := parseRange(host)
	to, errBehind := parseRange(container)
	if err := cmp.Or(err, errBehind); err != nil {
		return Port{}, err
	}
	if from.count != to.count {
		return Port{}, fmt.Errorf("must have ranges of equal length, not of %d and %d ports", from.count, to.count)
	}
	return Port{HostIP: ip, Host: from.first, Container: to.first, Count: from.count, Proto: proto, Only4: only4}, nil
}

// cutProto cuts the protocol off either end of s.
func cutProto(s string) (rest, proto string, err error) {
	rest, behind, found := strings.Cut(s, "/")
	before, ports, leading := strings.Cut(rest, ":")
	leading = leading && before != "" && before != localhost && strings.Trim(before, "abcdefghijklmnopqrstuvwxyz") == ""
	switch {
	case leading && found:
		return "", "", errors.New("must name the protocol once")
	case leading:
		rest, proto = ports, before
	case found:
		proto = strings.ToLower(behind)
	default:
		proto = "tcp"
	}
	switch proto {
	case "tcp", "udp", "sctp":
		return rest, proto, nil
	}
	return "", "", fmt.Errorf("must have the protocol tcp, udp or sctp, not %q", proto)
}

// localhost may stand for an address of the host, as with Docker.
const localhost = "localhost"

// cutHostIP cuts the host's address off the front of s: everything before the last two ports. ip is zero where s has no
// address or 0.0.0.0.
func cutHostIP(s string) (ip netip.Addr, rest string, err error) {
	if strings.HasPrefix(s, "[") {
		return cutBracketed(s)
	}
	switch strings.Count(s, ":") {
	case 0, 1:
		return netip.Addr{}, s, nil
	case 2:
	default:
		return netip.Addr{}, "", errors.New("must be [[ip:]host:]container[/proto]")
	}
	address, rest, _ := strings.Cut(s, ":")
	if strings.HasPrefix(rest, ":") {
		return netip.Addr{}, "", errors.New("must name the host's port too: boxrun picks none at random")
	}
	if address == localhost {
		address = "127.0.0.1"
	}
	ip, err = netip.ParseAddr(address)
	if err != nil || !ip.Is4() {
		return netip.Addr{}, "", errors.New("the host's address must be an IPv4 address, or an IPv6 address in brackets")
	}
	if ip.IsMulticast() || ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return netip.Addr{}, "", errors.New("the host's address must be one that an interface can have")
	}
	if ip.IsUnspecified() {
		ip = netip.Addr{}
	}
	return ip, rest, nil
}

// cutBracketed is cutHostIP for an IPv6 address in brackets.
func cutBracketed(s string) (ip netip.Addr, rest string, err error) {
	inside, rest, closed := strings.Cut(s[1:], "]:")
	ip, err = netip.ParseAddr(inside)
	switch {
	case err != nil || !ip.Is6() || !closed:
		err = errors.New("must have an IPv6 address in the brackets and : behind them")
	case ip.IsLoopback():
		err = errors.New("must not have [::1], where no box can answer: publish on 127.0.0.1, to which clients of localhost go on")
	case ip.Is4In6() || ip.Zone() != "" || ip.IsMulticast() || ip.IsLinkLocalUnicast():
		err = errors.New("the host's address must be a global or unique local one, or [::] for every IPv6 address")
	case !strings.Contains(rest, ":"):
		err = errors.New("must name the host's port too: boxrun picks none at random")
	}
	return ip, rest, err
}

type ports struct{ first, count uint16 }

// parseRange reads 80 or 9000-9100.
func parseRange(s string) (ports, error) {
	low, high, ranged := strings.Cut(s, "-")
	first, err := ParseNumber(low)
	if err != nil || !ranged {
		return ports{first, 1}, err
	}
	last, err := ParseNumber(high)
	if err == nil && last < first {
		err = fmt.Errorf("must have ranges that go up, not %d-%d", first, last)
	}
	return ports{first, last - first + 1}, err
}

// ParseNumber reads a number from 1 to 65535. The error states the broken rule.
func ParseNumber(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	switch {
	case errors.Is(err, strconv.ErrSyntax):
		return 0, fmt.Errorf("must have port numbers, not %q", s)
	case err != nil || n == 0:
		return 0, errors.New("must have ports from 1 to 65535")
	}
	return uint16(n), nil
}

// String returns the port for people: 127.0.0.1:8080->80/tcp, or 0.0.0.0:9000-9100->9000-9100/udp for every address.
func (p Port) String() string {
	ip := p.HostIP
	if !ip.IsValid() {
		ip = netip.IPv4Unspecified()
	}
	return fmt.Sprintf("%s:%s->%s/%s", bracketed(ip), p.ports(p.Host), p.ports(p.Container), p.Proto)
}

// bracketed returns an address as it stands before a port.
func bracketed(ip netip.Addr) string {
	if ip.Is6() {
		return "[" + ip.String() + "]"
	}
	return ip.String()
}

// MarshalTOML returns the port as profiles write ports.
func (p Port) MarshalTOML() ([]byte, error) {
	s := fmt.Sprintf("%s:%s/%s", p.ports(p.Host), p.ports(p.Container), p.Proto)
	if p.HostIP.IsValid() {
		s = bracketed(p.HostIP) + ":" + s
	}
	if p.Only4 {
		s = "0.0.0.0:" + s
	}
	return []byte(strconv.Quote(s)), nil
}

// ports returns p.Count ports from first on, as "80" or "9000-9100".
func (p Port) ports(first uint16) string {
	if p.Count == 1 {
		return strconv.Itoa(int(first))
	}
	return fmt.Sprintf("%d-%d", first, first+p.Count-1)
}

// Is6 reports whether a port is published on IPv6 addresses alone.
func (p Port) Is6() bool { return p.HostIP.Is6() }

// meets reports whether p is at every address that q is at.
func (p Port) meets(q Port) bool {
	switch {
	case !p.HostIP.IsValid():
		return !p.Only4 || !q.Is6()
	case p.HostIP.IsUnspecified():
		return q.Is6() == p.Is6()
	}
	return p.HostIP == q.HostIP
}

// Overlap returns the first port of the host that both p and q publish at the same protocol and address. A port at
// every address overlaps with any address. ok is false without an overlap.
func (p Port) Overlap(q Port) (port uint16, ok bool) {
	if p.Proto != q.Proto || !p.meets(q) && !q.meets(p) {
		return 0, false
	}
	first := max(p.Host, q.Host)
	return first, first-p.Host < p.Count && first-q.Host < q.Count
}
