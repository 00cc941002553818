package network

import (
	"cmp"
	"net/netip"

	"boxrun/launcher/box"
	"boxrun/launcher/passage"
	"boxrun/netsetup/routing"
	"boxrun/profiles/port"
)

// Entrance is the way of a client outside the host to a published port.
type Entrance struct {
	Device string
	From   netip.Addr     // a client that allow_from admits
	To     netip.AddrPort // address and port on the host
}

// EntranceOf returns the way of a client to a published port of a box at an address of either family. The interface is
// network.external, or the interface of the host's default route. The address is the port's own in the profile, else the
// first address of the interface, else the gateway of the bridge. The client is the first in allow_from, else an address of
// the world outside.
func EntranceOf(s *box.Store, b *box.Box, inside netip.Addr, p port.Port) (Entrance, error) {
	n := b.Profile.Network
	e, err := External(n)
	if err != nil {
		return Entrance{}, err
	}
	way := Entrance{Device: e.Name, From: routing.Somewhere(inside)}
	addr := passage.On(p, inside, e)
	if !addr.IsValid() { // the host has no network
		addr = Of(s, b).Gateway()
		if inside.Is6() {
			addr = Of(s, b).Gateway6()
		}
		way.Device = cmp.Or(e.Name, "eth0")
	}
	if from := n.AllowFor(inside); len(from) > 0 {
		way.From = from[0].Addr()
	}
	way.To = netip.AddrPortFrom(addr, p.Host)
	return way, nil
}
