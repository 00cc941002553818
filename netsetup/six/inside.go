package six

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"boxrun/netsetup/dump"
	"boxrun/netsetup/small"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Inside is IPv6 inside a box: the address, the default route, and that no advertisement of a neighbour is believed.
// Apptainer's plugins would give a box another address at each start, and let the box believe its neighbours. The methods
// are for a thread in the network of the box: the first process of the box, or a caller by InNetworkOf.
type Inside struct {
	Device  string       `json:"device"`
	Prefix  netip.Prefix `json:"prefix"` // the address with the length of the subnet
	Gateway netip.Addr   `json:"gateway"`
	MAC     string       `json:"mac,omitempty"` // of the gateway where it never changes; "": the box has to ask
}

// Commands returns what a person would type, in the network of the process $PID. The first process of the box may have
// done the same.
func (i *Inside) Commands() []string {
	const in = "nsenter -t $PID -n "
	lines := []string{
		fmt.Sprintf("%ssysctl -qw net.ipv6.conf.%s.accept_ra=0", in, i.Device),
		fmt.Sprintf("%sip addr replace %s dev %s nodad", in, i.Prefix, i.Device),
		fmt.Sprintf("%sip route replace default via %s dev %s metric 1024", in, i.Gateway, i.Device),
	}
	if i.MAC != "" {
		lines = append(lines, fmt.Sprintf("%sip neigh replace %s lladdr %s dev %s nud permanent", in, i.Gateway, i.MAC, i.Device))
	}
	return lines
}

// Drift returns a line for each thing of the device, which is link, out of place, by a handle of the network. Drift never
// writes.
func (i *Inside) Drift(h *netlink.Handle, link netlink.Link) ([]string, error) {
	var drift []string
	believes, err := small.Read(setting(i.Device, "accept_ra"))
	if err != nil {
		return nil, err
	}
	if strings.TrimSpace(string(believes)) != "0" {
		drift = append(drift, i.Device+" believes advertisements of neighbours, by accept_ra")
	}
	if on, err := OnLink(h, link, i.Prefix); err != nil {
		return nil, err
	} else if !on {
		drift = append(drift, fmt.Sprintf("%s lacks the address %s", i.Device, i.Prefix))
	}
	routes, err := i.routes(h, link)
	if err == nil && !routes.right {
		drift = append(drift, fmt.Sprintf("%s lacks the default route via %s", i.Device, i.Gateway))
	}
	if known, knownErr := i.knows(h, link); knownErr != nil || !known {
		drift, err = append(drift, fmt.Sprintf("%s does not know the MAC %s of %s", i.Device, i.MAC, i.Gateway)), errors.Join(err, knownErr)
	}
	for _, r := range routes.learnt {
		drift = append(drift, fmt.Sprintf("%s has a route that a neighbour told: %v", i.Device, dump.PrefixOf(r.Dst)))
	}
	return drift, err
}

// Ensure puts IPv6 in place, and takes away what neighbours told before. An address that a neighbour told is told by a
// route as well.
func (i *Inside) Ensure() error {
	if err := BelieveNobody(); err != nil {
		return err
	}
	h := dump.OfHost()
	link, err := h.LinkByName(i.Device)
	if err != nil {
		return fmt.Errorf("reading %q: %w", i.Device, err)
	}
	if err := AddTo(h, link, i.Prefix); err != nil {
		return fmt.Errorf("adding %s to %s: %w", i.Prefix, i.Device, err)
	}
	routes, err := i.routes(h, link)
	if err == nil && !routes.right {
		err = h.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: i.Gateway.AsSlice(), Priority: 1024})
	}
	if err != nil {
		return fmt.Errorf("adding the default route via %s: %w", i.Gateway, err)
	}
	return errors.Join(i.tell(h, link), i.unlearn(h, link, routes.learnt))
}

// tell has the box know the MAC of its gateway for good. Where bridged frames pass the rules of the host
// (bridge-nf-call-ip6tables 1), connection tracking loses sight of the question for the MAC, and firewalld drops the
// question as INVALID.
func (i *Inside) tell(h *netlink.Handle, link netlink.Link) error {
	if i.MAC == "" {
		return nil
	}
	mac, err := net.ParseMAC(i.MAC)
	if err == nil {
		err = h.NeighSet(&netlink.Neigh{LinkIndex: link.Attrs().Index, Family: netlink.FAMILY_V6, State: unix.NUD_PERMANENT,
			IP: i.Gateway.AsSlice(), HardwareAddr: mac})
	}
	if err != nil {
		return fmt.Errorf("telling the MAC %s of %s: %w", i.MAC, i.Gateway, err)
	}
	return nil
}

// knows reports whether the box knows the MAC of its gateway for good, if it is to.
func (i *Inside) knows(h *netlink.Handle, link netlink.Link) (bool, error) {
	if i.MAC == "" {
		return true, nil
	}
	entries, err := dump.Neighs(h, link.Attrs().Index, netlink.FAMILY_V6)
	return slices.ContainsFunc(entries, func(n netlink.Neigh) bool {
		return n.IP.Equal(i.Gateway.AsSlice()) && n.State&unix.NUD_PERMANENT != 0 && n.HardwareAddr.String() == i.MAC
	}), err
}

// insideRoutes are the routes of a box.
type insideRoutes struct {
	right  bool            // the default route by the gateway is there
	learnt []netlink.Route // by advertisements
}

func (i *Inside) routes(h *netlink.Handle, link netlink.Link) (insideRoutes, error) {
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

// unlearn deletes routes told by neighbours, and the temporary addresses of the device.
func (i *Inside) unlearn(h *netlink.Handle, link netlink.Link, learnt []netlink.Route) error {
	if len(learnt) == 0 {
		return nil
	}
	for _, r := range learnt {
		if err := h.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("deleting a route that a neighbour told: %w", err)
		}
	}
	addrs, err := dump.Addrs(h, link, netlink.FAMILY_V6)
	for _, a := range addrs {
		if a.Flags&unix.IFA_F_PERMANENT != 0 {
			continue
		}
		if err := h.AddrDel(link, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("deleting the address %v that a neighbour told: %w", a.IPNet, err)
		}
	}
	return err
}

// OnLink reports whether a link has an address.
func OnLink(h *netlink.Handle, link netlink.Link, p netip.Prefix) (bool, error) {
	addrs, err := dump.Addrs(h, link, netlink.FAMILY_V6)
	for _, have := range addrs {
		if dump.PrefixOf(have.IPNet) == p {
			return true, nil
		}
	}
	return false, err
}

// AddTo gives a link an address for use at once, without detection of duplicates (nodad). The link may have the address
// already.
func AddTo(h *netlink.Handle, link netlink.Link, p netip.Prefix) error {
	err := h.AddrAdd(link, &netlink.Addr{IPNet: dump.IPNet(p), Flags: unix.IFA_F_NODAD})
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}
