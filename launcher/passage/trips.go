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
			trip{fmt.Sprintf("what clients send to port %d/%s", p.Host, p.Proto), firewall.Packet{
				In: external.Name, Out: bridge, Into: b.Veth, Src: client, Dst: at, Proto: p.Proto, SPort: 40000, DPort: p.Host, ToHost: true,
			}, netip.AddrPortFrom(addr, p.Container)},
			trip{fmt.Sprintf("what the box answers from port %d/%s", p.Host, p.Proto), firewall.Packet{
				In: bridge, From: b.Veth, Out: external.Name, Src: addr, Dst: client, Proto: p.Proto, SPort: p.Container, DPort: 40000,
				Reply: true, Translated: true,
			}, netip.AddrPort{}})
	}
	return append(all,
		trip{"what the box sends out", firewall.Packet{
			In: bridge, From: b.Veth, Out: external.Name, Src: addr, Dst: someone, Proto: "tcp", SPort: 40000, DPort: 443,
		}, netip.AddrPort{}},
		trip{"what others answer to the box", firewall.Packet{
			In: external.Name, Out: bridge, Into: b.Veth, Src: someone, Dst: addr, Proto: "tcp", SPort: 443, DPort: 40000, Reply: true,
		}, netip.AddrPort{}})
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
