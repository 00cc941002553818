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

	Addrs    []netip.Prefix // of the host, for others; of IPv6, those first that the host speaks from
	Ways     []netip.Addr   // gateways of the host on the LAN
	networks []netip.Prefix // on the LAN by routes alone
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
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		if err := p.look(h, link, family); err != nil {
			return p, err
		}
	}
	return p, nil
}

// look adds what the device has in a family.
func (p *Parent) look(h *netlink.Handle, link netlink.Link, family int) error {
	addrs, err := global(h, link, family)
	p.Addrs = append(p.Addrs, addrs...)
	if err != nil {
		return err
	}
	routes, err := dump.Routes(h, family, &netlink.Route{LinkIndex: link.Attrs().Index}, netlink.RT_FILTER_OIF)
	for _, r := range routes {
		switch to := dump.PrefixOf(r.Dst); {
		case r.Gw != nil:
			p.Ways = append(p.Ways, dump.AddrOf(r.Gw))
		case family == netlink.FAMILY_V6 && to.Bits() > 0 && !to.Addr().IsLinkLocalUnicast():
			p.networks = append(p.networks, to)
		}
	}
	return err
}

// Of returns the addresses of the host in the family of an address.
func (p Parent) Of(addr netip.Addr) []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(p.Addrs), func(a netip.Prefix) bool { return a.Addr().Is6() != addr.Is6() })
}

// Lends reports whether a box on the LAN may have an address for the host: the address is in a network of the host's on
// the LAN, and neither the host nor a gateway of the host has the address.
func (p Parent) Lends(addr netip.Addr) bool {
	near := func(n netip.Prefix) bool { return n.Contains(addr) }
	return (slices.ContainsFunc(p.Addrs, near) || slices.ContainsFunc(p.networks, near)) && !p.Has(addr) && !slices.Contains(p.Ways, addr)
}

// Host returns the address from which the host speaks to a box: that in the network of the box, if there is one. Zero:
// the host has no address on the LAN.
func (p Parent) Host(box netip.Addr) netip.Addr {
	own := p.Of(box)
	if len(own) == 0 {
		return netip.Addr{}
	}
	return own[max(0, slices.IndexFunc(own, func(a netip.Prefix) bool { return a.Contains(box) }))].Addr()
}

// Has reports whether an address is the host's own on the LAN.
func (p Parent) Has(addr netip.Addr) bool {
	return slices.ContainsFunc(p.Addrs, func(a netip.Prefix) bool { return a.Addr() == addr })
}
