package netsetup

import (
	"fmt"
	"net/netip"

	"boxrun/netsetup/dump"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Inside6 is IPv6 inside a box: the address, the default route, and that no advertisement of a neighbour is believed.
// Apptainer's plugins would give a box another address at each start, and let the box believe its neighbours. The methods
// are for a thread in the network of the box: the first process of the box, or a caller by InNetworkOf.
type Inside6 struct {
	Device  string       `json:"device"`
	Prefix  netip.Prefix `json:"prefix"` // the address with the length of the subnet
	Gateway netip.Addr   `json:"gateway"`
}

// Inside6 returns IPv6 inside the box, nil without a Subnet6.
func (b Box) Inside6(device string) *Inside6 {
	if !b.Subnet6.IsValid() {
		return nil
	}
	n := Network{Subnet: b.Subnet, Subnet6: b.Subnet6}
	return &Inside6{device, netip.PrefixFrom(b.Addr6(), b.Subnet6.Bits()), n.Gateway6()}
}

func (i *Inside6) acceptRA() Sysctl {
	return Sysctl{Key: deviceKey6(i.Device, "accept_ra"), Value: "0"}
}

func (i *Inside6) address() *Address { return &Address{Device: i.Device, Prefix: i.Prefix} }

// Commands returns what a person would type, in the network of the process $PID.
func (i *Inside6) Commands() []string {
	const in = "nsenter -t $PID -n "
	ra, _ := (&Sysctl{Key: i.acceptRA().Key, Value: "0"}).commands()
	address, _ := i.address().commands()
	return []string{in + ra[0], in + address[0],
		fmt.Sprintf("%sip route add default via %s dev %s", in, i.Gateway, i.Device)}
}

// Drift returns a line for each thing out of place. It never writes.
func (i *Inside6) Drift() ([]string, error) {
	ra := i.acceptRA()
	drift, err := ra.check(nil)
	if err != nil {
		return nil, err
	}
	h := dump.OfHost()
	link, err := h.LinkByName(i.Device)
	if err != nil {
		return nil, fmt.Errorf("reading %q: %w", i.Device, err)
	}
	if on, err := i.address().on(h, link); err != nil {
		return nil, err
	} else if !on {
		drift = append(drift, fmt.Sprintf("%s lacks the address %s", i.Device, i.Prefix))
	}
	routes, err := i.routes(h, link)
	if err == nil && !routes.right {
		drift = append(drift, fmt.Sprintf("%s lacks the default route via %s", i.Device, i.Gateway))
	}
	for _, r := range routes.learnt {
		drift = append(drift, fmt.Sprintf("%s has a route that a neighbour told: %v", i.Device, dump.PrefixOf(r.Dst)))
	}
	return drift, err
}

// Ensure puts IPv6 in place, and takes away what neighbours told before. An address that a neighbour told is told by a
// route as well.
func (i *Inside6) Ensure() error {
	if err := writeSysctl(i.acceptRA().Key, "0"); err != nil {
		return err
	}
	h := dump.OfHost()
	link, err := h.LinkByName(i.Device)
	if err != nil {
		return fmt.Errorf("reading %q: %w", i.Device, err)
	}
	if err := i.address().add(h, link); err != nil {
		return fmt.Errorf("adding %s to %s: %w", i.Prefix, i.Device, err)
	}
	routes, err := i.routes(h, link)
	if err == nil && !routes.right {
		err = h.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: i.Gateway.AsSlice(), Priority: 1024})
	}
	if err != nil {
		return fmt.Errorf("adding the default route via %s: %w", i.Gateway, err)
	}
	return i.unlearn(h, link, routes.learnt)
}

// insideRoutes are the routes of a box.
type insideRoutes struct {
	right  bool            // the default route by the gateway is there
	learnt []netlink.Route // by advertisements
}

func (i *Inside6) routes(h *netlink.Handle, link netlink.Link) (insideRoutes, error) {
	var found insideRoutes
	list, err := dump.Routes(h, netlink.FAMILY_V6, &netlink.Route{LinkIndex: link.Attrs().Index}, netlink.RT_FILTER_OIF)
	for _, r := range list {
		gateway, _ := netip.AddrFromSlice(r.Gw)
		switch {
		case r.Protocol == unix.RTPROT_RA:
			found.learnt = append(found.learnt, r)
		case dump.PrefixOf(r.Dst).Bits() <= 0 && gateway == i.Gateway:
			found.right = true
		}
	}
	return found, err
}

// unlearn deletes routes told by neighbours, and the addresses of the device that do not stay for ever.
func (i *Inside6) unlearn(h *netlink.Handle, link netlink.Link, learnt []netlink.Route) error {
	if len(learnt) == 0 {
		return nil
	}
	for _, r := range learnt {
		if err := ignore(h.RouteDel(&r), unix.ESRCH); err != nil {
			return fmt.Errorf("deleting a route that a neighbour told: %w", err)
		}
	}
	addrs, err := dump.Addrs(h, link, netlink.FAMILY_V6)
	for _, a := range addrs {
		if a.Flags&unix.IFA_F_PERMANENT == 0 && err == nil {
			err = ignore(h.AddrDel(link, &a), unix.EADDRNOTAVAIL)
		}
	}
	return err
}
