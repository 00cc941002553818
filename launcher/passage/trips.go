package passage

import (
	"fmt"
	"net/netip"

	"boxrun/launcher/box"
	"boxrun/netsetup"
	"boxrun/netsetup/firewall"
	"boxrun/netsetup/routing"
	"boxrun/profiles/port"
)

// trip is a packet to or from the box, passing through the host.
type trip struct {
	what   string
	packet firewall.Packet
	to     netip.AddrPort // destination of packets to a published port
	own    bool           // between the host itself and the box
}

// trips returns the first packet of a connection through each published port, the first packet of a connection made by
// the box, and the answer to each, for each address of the box.
func trips(b *box.Box, external netsetup.External) []trip {
	var all []trip
	for _, addr := range b.Addrs() {
		all = append(all, tripsTo(b, addr, external)...)
	}
	return all
}

// tripsTo returns the trips for an address of the box.
func tripsTo(b *box.Box, addr netip.Addr, external netsetup.External) []trip {
	bridge := b.Profile.Network.Bridge
	someone := routing.Somewhere(addr)
	var all []trip
	for _, p := range Admitted(b, addr) {
		at := On(p, addr, external)
		nowhere := b.Profile.Network.External != "" && !at.IsValid()
		if p.HostIP.IsLoopback() || nowhere {
			continue // the host's own packets are not forwarded, and a port published nowhere is told of elsewhere
		}
		client := someone
		if from := b.Profile.Network.AllowFor(addr); len(from) > 0 {
			client = from[0].Addr()
		}
		all = append(all,
			trip{what: fmt.Sprintf("what clients send to port %d/%s", p.Host, p.Proto), to: netip.AddrPortFrom(addr, p.Container), packet: firewall.Packet{
				In: external.Name, Out: bridge, Into: b.Veth, Src: client, Dst: at, Proto: p.Proto, SPort: 40000, DPort: p.Host, ToHost: true}},
			trip{what: fmt.Sprintf("what the box answers from port %d/%s", p.Host, p.Proto), packet: firewall.Packet{
				In: bridge, From: b.Veth, Out: external.Name, Src: addr, Dst: client, Proto: p.Proto, SPort: p.Container, DPort: 40000,
				Reply: true, Translated: true}})
	}
	all = append(all,
		trip{what: "what the box sends out", packet: firewall.Packet{
			In: bridge, From: b.Veth, Out: external.Name, Src: addr, Dst: someone, Proto: "tcp", SPort: 40000, DPort: 443}},
		trip{what: "what others answer to the box", packet: firewall.Packet{
			In: external.Name, Out: bridge, Into: b.Veth, Src: someone, Dst: addr, Proto: "tcp", SPort: 443, DPort: 40000, Reply: true}})
	return append(all, ownTrips(b, addr)...)
}

// ownTrips returns a packet of the host's own to the first published port of the box, and the answer; none for a box of whose
// ports nobody asks.
func ownTrips(b *box.Box, addr netip.Addr) []trip {
	ports, bridge := b.Profile.Network.PortsFor(addr), b.Profile.Network.Bridge
	if len(ports) == 0 {
		return nil
	}
	bits := map[bool]int{true: 64, false: b.Profile.Network.Subnet.Bits()}[addr.Is6()]
	here, p := netip.PrefixFrom(addr, bits).Masked().Addr().Next(), ports[0]
	return []trip{
		{what: "what the host itself sends to the box", own: true, packet: firewall.Packet{
			Out: bridge, Into: b.Veth, Src: here, Dst: addr, Proto: p.Proto, SPort: 40000, DPort: p.Container, Translated: true}},
		{what: "what the box answers to the host itself", own: true, packet: firewall.Packet{
			In: bridge, From: b.Veth, Src: addr, Dst: here, Proto: p.Proto, SPort: p.Container, DPort: 40000, Reply: true, Translated: true, ToHost: true}},
	}
}

// On returns the address of the host at which clients reach a port of a box at an address of either family: the port's own,
// or the first of the external interface; zero for none.
func On(p port.Port, box netip.Addr, external netsetup.External) netip.Addr {
	if p.HostIP.IsValid() && !p.HostIP.IsUnspecified() {
		return p.HostIP
	}
	return external.Addr(box)
}

// Admitted returns the ports at an address of a box that somebody may reach: none where network.allow_from names no network
// of the family.
func Admitted(b *box.Box, addr netip.Addr) []port.Port {
	n := b.Profile.Network
	if len(n.AllowFrom) > 0 && len(n.AllowFor(addr)) == 0 {
		return nil
	}
	return n.PortsFor(addr)
}
