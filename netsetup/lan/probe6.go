package lan

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/mdlayher/ethernet"
)

// The numbers of RFC 4861. A packet with fewer hops left has passed a router, and is forged.
const (
	solicit, advertise = 135, 136
	hops               = 255
	icmp6              = 58
	ip6Length          = 40
	solicitLength      = 24 // the head of the message and the address
)

// solicitation is question for an IPv6 address: who has the address tells all neighbours.
func solicitation(mac net.HardwareAddr, addr netip.Addr) (inquiry, error) {
	a := addr.As16()
	group := [16]byte{0: 0xff, 1: 2, 11: 1, 12: 0xff, 13: a[13], 14: a[14], 15: a[15]}
	to := net.HardwareAddr{0x33, 0x33, 0xff, a[13], a[14], a[15]}
	packet := make([]byte, ip6Length, ip6Length+solicitLength)
	packet[0], packet[5], packet[6], packet[7] = 6<<4, solicitLength, icmp6, hops // from no address
	copy(packet[24:], group[:])
	packet = append(append(packet, solicit, 0, 0, 0, 0, 0, 0, 0), a[:]...)
	binary.BigEndian.PutUint16(packet[ip6Length+2:], checksum6(packet))
	f := ethernet.Frame{Destination: to, Source: mac, EtherType: ethernet.EtherTypeIPv6, Payload: packet}
	frame, err := f.MarshalBinary()
	return inquiry{ethernet.EtherTypeIPv6, to, frame, func(frame []byte) net.HardwareAddr { return advertiser(frame, addr) }}, err
}

// checksum6 returns the checksum of the message of ICMPv6 in a packet whose checksum is 0 yet.
func checksum6(packet []byte) uint16 {
	sum := uint32(len(packet)-ip6Length) + icmp6
	for i := 8; i < len(packet); i += 2 { // the addresses and the message
		sum += uint32(binary.BigEndian.Uint16(packet[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// advertiser returns the MAC of who advertises an address by a frame, nil for another frame.
func advertiser(frame []byte, addr netip.Addr) net.HardwareAddr {
	var f ethernet.Frame
	if f.UnmarshalBinary(frame) != nil || len(f.Payload) < ip6Length+solicitLength {
		return nil
	}
	a, packet, message := addr.As16(), f.Payload, f.Payload[ip6Length:]
	if packet[6] != icmp6 || packet[7] != hops || message[0] != advertise || !bytes.Equal(message[8:solicitLength], a[:]) {
		return nil
	}
	return bytes.Clone(f.Source)
}
