package lan

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"boxrun/netsetup/dump"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Known is what a box on a LAN knows for good: that addresses of the host are behind the device of the host's way. The box
// would ask the LAN in vain, as the kernel passes no question to the host's own device there, and by IPv6 the device of the
// way answers for its own addresses alone.
type Known struct {
	Device string       // in the box
	MAC    string       // of the device of the way
	Hosts  []netip.Addr // of IPv6
}

// entries returns what the box knows by the MAC, and what of that is missing and surplus. h is of the network of the box.
func (k Known) entries(h *netlink.Handle) (link netlink.Link, missing, surplus []netip.Addr, err error) {
	if link, err = h.LinkByName(k.Device); err != nil {
		return nil, nil, nil, fmt.Errorf("reading %q: %w", k.Device, err)
	}
	list, err := dump.Neighs(h, link.Attrs().Index, netlink.FAMILY_V6)
	var have []netip.Addr
	for _, n := range list {
		if n.State&unix.NUD_PERMANENT != 0 && n.HardwareAddr.String() == k.MAC {
			have = append(have, dump.AddrOf(n.IP))
		}
	}
	return link, dump.Without(k.Hosts, have), dump.Without(have, k.Hosts), err
}

// Drift returns a line for each thing out of place, by a handle of the network of the box.
func (k Known) Drift(h *netlink.Handle) ([]string, error) {
	_, missing, surplus, err := k.entries(h)
	var drift []string
	for _, a := range missing {
		drift = append(drift, fmt.Sprintf("the box does not know the MAC %s of the host's %s", k.MAC, a))
	}
	for _, a := range surplus {
		drift = append(drift, fmt.Sprintf("the box takes %s for the host's", a))
	}
	return drift, err
}

// Ensure tells the box, by a handle of its network.
func (k Known) Ensure(h *netlink.Handle) error {
	link, missing, surplus, err := k.entries(h)
	if err != nil {
		return err
	}
	mac, err := net.ParseMAC(k.MAC)
	if err != nil && len(missing) > 0 {
		return err
	}
	entry := func(a netip.Addr) *netlink.Neigh {
		return &netlink.Neigh{LinkIndex: link.Attrs().Index, Family: netlink.FAMILY_V6, State: unix.NUD_PERMANENT, IP: a.AsSlice(), HardwareAddr: mac}
	}
	for _, a := range surplus {
		if err := h.NeighDel(entry(a)); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("having the box forget the MAC of %s: %w", a, err)
		}
	}
	for _, a := range missing {
		if err := h.NeighSet(entry(a)); err != nil {
			return fmt.Errorf("telling the box the MAC of %s: %w", a, err)
		}
	}
	return nil
}

// Commands returns what a person would type on the host, where pid is the box's init.
func (k Known) Commands(pid string) []string {
	var lines []string
	for _, a := range k.Hosts {
		lines = append(lines, fmt.Sprintf("nsenter -t %s -n ip neigh replace %s lladdr %s dev %s nud permanent", pid, a, k.MAC, k.Device))
	}
	return lines
}
