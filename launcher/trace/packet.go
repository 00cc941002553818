package trace

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// packet is a packet of IPv4 or IPv6, as far as a person wants to know it.
type packet struct {
	src, dst netip.AddrPort // with port 0 where there is none
	proto    string         // tcp | udp | sctp | icmp | icmpv6 | "protocol 47"
	flags    string         // of tcp: "SYN", "SYN ACK"
	iif      int            // index of the device by which the packet came; 0: the host sent it
	tracked  bool           // only its connection tells the packet to be the box's: the source or target is translated
}

// parsePacket takes the headers of a packet apart, and reports whether the packet is of IPv4 or IPv6. Behind an extension
// header of IPv6 nothing is looked for.
func parsePacket(ip, transport []byte) (packet, bool) {
	h, ok := headerOf(ip)
	if !ok {
		return packet{}, false
	}
	src, _ := netip.AddrFromSlice(ip[h.src : h.src+h.length])
	dst, _ := netip.AddrFromSlice(ip[h.dst : h.dst+h.length])
	p := packet{proto: protoName(ip[h.proto])}
	var sport, dport uint16
	later := src.Is4() && binary.BigEndian.Uint16(ip[6:8])&0x1fff != 0 // a later fragment has no ports
	if hasPorts := p.proto == "tcp" || p.proto == "udp" || p.proto == "sctp"; hasPorts && !later && len(transport) >= 4 {
		sport, dport = binary.BigEndian.Uint16(transport), binary.BigEndian.Uint16(transport[2:])
	}
	if p.proto == "tcp" && !later && len(transport) > 13 {
		p.flags = tcpFlags(transport[13])
	}
	p.src, p.dst = netip.AddrPortFrom(src, sport), netip.AddrPortFrom(dst, dport)
	return p, true
}

// header is where the header of IPv4 or IPv6 has the addresses, in bytes.
type header struct{ src, dst, length, proto uint32 }

// headerFor returns the header with addresses like addr.
func headerFor(addr netip.Addr) header {
	if addr.Is6() {
		return header{src: 8, dst: 24, length: 16, proto: 6}
	}
	return header{src: 12, dst: 16, length: 4, proto: 9}
}

// headerOf returns the header that the bytes of a packet begin with, and false for less than a header.
func headerOf(ip []byte) (header, bool) {
	switch {
	case len(ip) >= 20 && ip[0]>>4 == 4:
		return headerFor(netip.IPv4Unspecified()), true
	case len(ip) >= ipHeader && ip[0]>>4 == 6:
		return headerFor(netip.IPv6Unspecified()), true
	}
	return header{}, false
}

func protoName(number byte) string {
	switch number {
	case unix.IPPROTO_TCP:
		return "tcp"
	case unix.IPPROTO_UDP:
		return "udp"
	case unix.IPPROTO_SCTP:
		return "sctp"
	case unix.IPPROTO_ICMP:
		return "icmp"
	case unix.IPPROTO_ICMPV6:
		return "icmpv6"
	}
	return fmt.Sprintf("protocol %d", number)
}

func tcpFlags(bits byte) string {
	var set []string
	for i, name := range []string{"FIN", "SYN", "RST", "PSH", "ACK"} {
		if bits&(1<<i) != 0 {
			set = append(set, name)
		}
	}
	return strings.Join(set, " ")
}

// String returns the packet in a line: "192.0.2.2:40000 > 10.22.0.2:80 tcp SYN".
func (p packet) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s > %s %s %s", shown(p.src), shown(p.dst), p.proto, p.flags))
}

// shown returns an address with its port, if there is a port.
func shown(a netip.AddrPort) string {
	if a.Port() == 0 {
		return a.Addr().String()
	}
	return a.String()
}

// like returns what packets of the same kind have in common: all but the client's port, taken to be the higher port.
func (p packet) like() string {
	src, dst := p.src, p.dst
	if src.Port() > dst.Port() {
		src = netip.AddrPortFrom(src.Addr(), 0)
	} else {
		dst = netip.AddrPortFrom(dst.Addr(), 0)
	}
	return fmt.Sprintf("%s > %s %s %s", src, dst, p.proto, p.flags)
}
