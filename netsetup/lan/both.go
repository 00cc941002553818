package lan

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"boxrun/netsetup/dump"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Both is what a box needs inside that is on a bridge and on a LAN at once: each answer leaves by the network in which the
// question came. By the main table alone, the box would answer a client on the LAN by the LAN, from the address on the
// bridge, where the client has asked for a published port of the host.
//
//	22001: from BRIDGE to NETWORK lookup 22001    a network that the main table leads to by the LAN
//	22001: from LAN to LAN/24 lookup 22002        the host too, by the device of the host's way
//	22002: to HOST lookup 22001                   to the host by the bridge: ports published there may lead back to the box
//	22003: from BRIDGE lookup main suppress_prefixlength 0
//	22003: from LAN lookup main suppress_prefixlength 0
//	22004: from BRIDGE lookup 22001               the default route by the bridge
//	22004: from LAN lookup 22002                  the default route by the LAN, if the LAN has a gateway
//
// All of these have the protocol of the kernel's own, as a systemd-networkd in the box removes others.
type Both struct {
	Bridge []Leg        // one for a family
	LAN    Leg          // of IPv4; Addr and Gateway are zero where a DHCP client in the box knows them
	LAN6   Leg          // of IPv6, on the same device; zero where routers on the LAN are asked, if at all
	Hosts  []netip.Addr // of the host on the LAN
}

// Leg is how a box stands in a network.
type Leg struct {
	Device  string
	Addr    netip.Prefix // with the length of the network
	Gateway netip.Addr
}

func (l Leg) family() int { return familyOf(l.Addr.Addr()) }

func familyOf(a netip.Addr) int {
	if a.Is6() {
		return netlink.FAMILY_V6
	}
	return netlink.FAMILY_V4
}

// The numbers of boxrun's tables, and of the priorities of boxrun's rules, in a box.
const (
	byBridge, byLAN                    = 22001, 22002
	toNetwork, toHost, toKnown, toElse = 22001, 22002, 22003, 22004
)

// standing is what a box has on the LAN in a family.
type standing struct {
	addrs    []netip.Prefix
	networks []netip.Prefix // that the main table leads to by the LAN
	gateway  netip.Addr     // of the main table's default route by the LAN; zero for none
}

// onLAN returns what the profile says of the LAN in a family.
func (b Both) onLAN(family int) Leg {
	if family == netlink.FAMILY_V6 {
		return b.LAN6
	}
	return b.LAN
}

// foreseen returns what a box has on the LAN by the profile alone.
func (b Both) foreseen(family int) standing {
	own := b.onLAN(family).Addr
	if !own.IsValid() {
		return standing{}
	}
	return standing{[]netip.Prefix{own}, []netip.Prefix{own.Masked()}, netip.Addr{}}
}

// seen returns what a box has on the LAN, read in the network of the box.
func (b Both) seen(h *netlink.Handle, family int) (s standing, err error) {
	link, err := h.LinkByName(b.LAN.Device)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("reading %q: %w", b.LAN.Device, err)
	}
	if s.addrs, err = global(h, link, family); err != nil {
		return s, err
	}
	routes, err := dump.Routes(h, family, &netlink.Route{LinkIndex: link.Attrs().Index}, netlink.RT_FILTER_OIF)
	for _, r := range routes {
		to := dump.PrefixOf(r.Dst)
		switch {
		case to.Bits() <= 0 && !s.gateway.IsValid(): // the kernel prefers the first
			s.gateway = dump.AddrOf(r.Gw)
		case to.Bits() <= 0:
		case !to.Addr().IsLinkLocalUnicast():
			s.networks = append(s.networks, to)
		}
	}
	return s, err
}

// global returns the addresses of a device that others reach; of IPv6 none of which a duplicate is looked for, or was found,
// and last those that the device does not speak from.
func global(h *netlink.Handle, link netlink.Link, family int) ([]netip.Prefix, error) {
	list, err := dump.Addrs(h, link, family)
	var found, seldom []netip.Prefix
	for _, a := range list {
		switch p := dump.PrefixOf(a.IPNet); {
		case a.Scope != unix.RT_SCOPE_UNIVERSE || family == netlink.FAMILY_V6 && a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0:
		case family == netlink.FAMILY_V6 && a.Flags&(unix.IFA_F_TEMPORARY|unix.IFA_F_DEPRECATED) != 0:
			seldom = append(seldom, p)
		default:
			found = append(found, p)
		}
	}
	return append(found, seldom...), err
}

// want returns the rules and routes in the family of a leg, for what the box has on the LAN; nothing for a box without an
// address there.
func (b Both) want(leg Leg, s standing) (w wanted) {
	if len(s.addrs) == 0 {
		return w
	}
	own := netip.PrefixFrom(leg.Addr.Addr(), leg.Addr.Addr().BitLen())
	for _, to := range s.networks {
		w.rules = append(w.rules, turn{toNetwork, own, to, byBridge})
	}
	for _, host := range b.Hosts {
		if familyOf(host) == leg.family() {
			w.rules = append(w.rules, turn{toHost, netip.Prefix{}, netip.PrefixFrom(host, host.BitLen()), byBridge})
		}
	}
	w.rules = append(w.rules, turn{toKnown, own, netip.Prefix{}, unix.RT_TABLE_MAIN}, turn{toElse, own, netip.Prefix{}, byBridge})
	w.routes = append(w.routes, lead{byBridge, everywhere(own), leg.Gateway, leg.Device})
	for _, addr := range s.addrs {
		w.answerFrom(addr, b.LAN.Device)
	}
	gateway := s.gateway
	if named := b.onLAN(leg.family()).Gateway; named.IsValid() {
		gateway = named
	}
	if gateway.IsValid() {
		w.routes = append(w.routes, lead{byLAN, everywhere(own), gateway, b.LAN.Device})
	}
	return w
}

// everywhere returns the destination of a default route in the family of a prefix.
func everywhere(p netip.Prefix) netip.Prefix { return netip.PrefixFrom(p.Addr(), 0).Masked() }

// answerFrom adds what leads answers from an address on the LAN.
func (w *wanted) answerFrom(addr netip.Prefix, device string) {
	own, network := netip.PrefixFrom(addr.Addr(), addr.Addr().BitLen()), lead{byLAN, addr.Masked(), netip.Addr{}, device}
	w.rules = append(w.rules, turn{toNetwork, own, addr.Masked(), byLAN}, turn{toKnown, own, netip.Prefix{}, unix.RT_TABLE_MAIN},
		turn{toElse, own, netip.Prefix{}, byLAN})
	if !slices.Contains(w.routes, network) {
		w.routes = append(w.routes, network)
	}
}

// Change returns what to do in the network of a box for the rules and routes that are wanted there by now. The caller is in
// that network, of which h is a handle.
func (b Both) Change(h *netlink.Handle) (Change, error) {
	var all Change
	for _, leg := range b.Bridge {
		s, err := b.seen(h, leg.family())
		if err != nil {
			return all, err
		}
		have, err := present(h, leg.family())
		if err != nil {
			return all, err
		}
		all.add(b.want(leg, s), have)
	}
	return all, nil
}

// Foreseen returns what Change will be for a box that starts with what the profile says of the LAN.
func (b Both) Foreseen() Change {
	var all Change
	for _, leg := range b.Bridge {
		all.add(b.want(leg, b.foreseen(leg.family())), wanted{})
	}
	return all
}
