package network

import (
	"net/netip"

	"boxrun/launcher/box"
	"boxrun/netsetup/routing"
	"boxrun/profiles"
)

// Entrance is the way of a client outside the host to a published port.
type Entrance struct {
	Device string
	From   netip.Addr     // a client that allow_from admits
	To     netip.AddrPort // address and port on the host
}

// EntranceOf returns the way of a client to a published port of a box. The interface is network.external, or the
// interface of the host's default route. The address is the port's own in the profile, else the first address of the
// interface, else the gateway of the bridge. The client is the first in allow_from, else an address of the world
// outside.
func EntranceOf(s *box.Store, b *box.Box, p profiles.Port) (Entrance, error) {
	n := b.Profile.Network
	e, err := External(n)
	if err != nil {
		return Entrance{}, err
	}
	way := Entrance{Device: e.Name, From: routing.Somewhere()}
	addr := p.HostIP
	if !addr.IsValid() && len(e.Addrs) > 0 {
		addr = e.Addrs[0]
	}
	if !addr.IsValid() { // the host has no network
		addr = Of(s, b).Gateway()
		way.Device = "eth0"
	}
	if from := n.AllowFrom4(); len(from) > 0 {
		way.From = from[0].Addr()
	}
	way.To = netip.AddrPortFrom(addr, p.Host)
	return way, nil
}
