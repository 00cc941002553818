package lan

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"boxrun/netsetup/dump"

	"github.com/vishvananda/netlink"
)

// Parent is a device of the host on a LAN, as boxes there need to know the device.
type Parent struct {
	Name     string
	Kind     string // as "ip -d link" shows, "device" for a network card
	Port     bool   // of a bridge or a bond: the device takes no macvlan devices
	Loops    bool   // the loopback device
	Up       bool   // set up
	Ethernet bool   // the loopback device is no Ethernet

	Addrs []netip.Prefix // IPv4, of the host
	Ways  []netip.Addr   // gateways of the host on the LAN
}

// LookParent looks a device of the host up.
func LookParent(name string) (Parent, error) {
	h := dump.OfHost()
	link, err := h.LinkByName(name)
	if err != nil {
		return Parent{}, fmt.Errorf("reading %s: %w", name, err)
	}
	a := link.Attrs()
	p := Parent{
		Name: a.Name, Kind: link.Type(), Port: a.MasterIndex != 0 && (a.Slave == nil || a.Slave.SlaveType() != "vrf"),
		Loops: a.Flags&net.FlagLoopback != 0, Up: a.Flags&net.FlagUp != 0, Ethernet: a.EncapType == "ether",
	}
	list, err := dump.Addrs(h, link, netlink.FAMILY_V4)
	for _, have := range list {
		p.Addrs = append(p.Addrs, dump.PrefixOf(have.IPNet))
	}
	if err != nil {
		return p, err
	}
	routes, err := routesBy(h, link)
	for _, r := range routes {
		if r.Gw != nil {
			p.Ways = append(p.Ways, dump.AddrOf(r.Gw))
		}
	}
	return p, err
}

// Lends reports whether a box on the LAN may have an address for the host: the address is in a network of the host's on
// the LAN, and neither the host nor a gateway of the host has the address.
func (p Parent) Lends(addr netip.Addr) bool {
	return p.near(addr) >= 0 && !p.Has(addr) && !slices.Contains(p.Ways, addr)
}

// Host returns the address from which the host speaks to a box: that in the network of the box, if there is one. Zero:
// the host has no address on the LAN.
func (p Parent) Host(box netip.Addr) netip.Addr {
	if len(p.Addrs) == 0 {
		return netip.Addr{}
	}
	return p.Addrs[max(0, p.near(box))].Addr()
}

// near returns the index in Addrs of the address whose network has addr, -1 for none.
func (p Parent) near(addr netip.Addr) int {
	return slices.IndexFunc(p.Addrs, func(a netip.Prefix) bool { return a.Contains(addr) })
}

// Has reports whether an address is the host's own on the LAN.
func (p Parent) Has(addr netip.Addr) bool {
	return slices.ContainsFunc(p.Addrs, func(a netip.Prefix) bool { return a.Addr() == addr })
}
