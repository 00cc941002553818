package netsetup

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"boxrun/netsetup/dump"
	"boxrun/netsetup/six"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Link is how a box is connected, as seen from inside the box's network namespace and from the host's bridge.
type Link struct {
	Addr      netip.Prefix // the global IPv4 address of the interface inside
	Name      string       // the interface inside
	MAC       string       // of the interface inside
	Veth      string       // its other end, on the host: on the bridge, unless somebody took the veth off
	VethIndex int
}

// ErrNoAddress is in the chain of the error where a process is there, but its network has no address, not yet or no
// longer.
var ErrNoAddress = errors.New("no address")

// A Look is into the network of a process: at the interface Device, and at IPv6, where a box is to have that.
type Look struct {
	PID    int // a box's init: Apptainer's master lives in the host's network
	Device string
	Six    *six.Inside
}

// Seen is what a Look has seen.
type Seen struct {
	Link  Link
	Drift []string // a line for each thing of IPv6 out of place

	LinkErr, DriftErr error
}

// LookInto looks into networks, side by side. Each is entered once. LinkErr wraps os.ErrNotExist where there is no such
// process, and ErrNoAddress where the interface or its address is missing. An interface without a peer veth in the
// caller's network is an error, too.
func LookInto(looks ...Look) []Seen {
	seen := make([]Seen, len(looks))
	pids := make([]int, len(looks))
	for i, l := range looks {
		pids[i] = l.PID
	}
	host, err := dump.Kept()
	if err != nil {
		return slices.Repeat([]Seen{{LinkErr: err, DriftErr: err}}, len(looks))
	}
	defer host.Close()
	for i, err := range dump.InEach(pids, func(i int, ns netns.NsHandle, inside *netlink.Handle) error {
		seen[i] = looks[i].within(ns, inside, host)
		return nil
	}) {
		if err != nil {
			seen[i] = Seen{LinkErr: err, DriftErr: err}
		}
	}
	return seen
}

// BoxLink is LookInto for the interface of a single box.
func BoxLink(pid int, ifname string) (Link, error) {
	seen := LookInto(Look{PID: pid, Device: ifname})[0]
	return seen.Link, seen.LinkErr
}

// within looks at the network that the thread is in.
func (l Look) within(ns netns.NsHandle, inside, host *netlink.Handle) (s Seen) {
	eth, err := l.device(inside)
	switch {
	case err != nil && l.Six != nil:
		return Seen{LinkErr: err, DriftErr: err}
	case err != nil:
		return Seen{LinkErr: err}
	}
	s.Link, s.LinkErr = l.link(ns, inside, host, eth)
	if l.Six != nil {
		s.Drift, s.DriftErr = l.Six.Drift(inside, eth)
	}
	return s
}

// device returns the interface. The error wraps ErrNoAddress where there is none of the name.
func (l Look) device(inside *netlink.Handle) (netlink.Link, error) {
	eth, err := inside.LinkByName(l.Device)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, fmt.Errorf("no interface %q in the network of process %d: %w", l.Device, l.PID, ErrNoAddress)
	}
	if err != nil {
		return nil, fmt.Errorf("reading %q in the network of process %d: %w", l.Device, l.PID, err)
	}
	return eth, nil
}

// link looks at eth, the interface, and at its other end.
func (l Look) link(ns netns.NsHandle, inside, host *netlink.Handle, eth netlink.Link) (Link, error) {
	addrs, err := globalAddrs(inside, eth, netlink.FAMILY_V4)
	if err == nil && len(addrs) == 0 {
		err = ErrNoAddress
	}
	if err != nil {
		return Link{}, fmt.Errorf("%q in the network of process %d: %w", l.Device, l.PID, err)
	}
	veth, err := hostEnd(host, ns, eth)
	if err != nil {
		return Link{}, fmt.Errorf("finding the other end of %q of process %d: %w", l.Device, l.PID, err)
	}
	return Link{Addr: addrs[0], Name: l.Device, MAC: eth.Attrs().HardwareAddr.String(), Veth: veth.Name, VethIndex: veth.Index}, nil
}

// globalAddrs returns the global addresses of a link, IPv4 before IPv6, primary before secondary as the kernel lists
// addresses. Addresses of IPv6 that come and go for privacy are left out.
func globalAddrs(h *netlink.Handle, link netlink.Link, inet int) ([]netip.Prefix, error) {
	const secondary = unix.IFA_F_SECONDARY // of IPv6: temporary
	list, err := dump.Addrs(h, link, inet)
	var prefixes []netip.Prefix
	for _, a := range list {
		p := dump.PrefixOf(a.IPNet)
		if a.Scope == unix.RT_SCOPE_UNIVERSE && p.IsValid() && (p.Addr().Is4() || a.Flags&secondary == 0) {
			prefixes = append(prefixes, p)
		}
	}
	return prefixes, err
}

// hostEnd finds the peer of eth, a veth of the namespace box, in the host's network. Indexes are per namespace, so
// the link with the peer's index proves nothing: the link must name eth's index and box's namespace in turn.
func hostEnd(host *netlink.Handle, box netns.NsHandle, eth netlink.Link) (*netlink.LinkAttrs, error) {
	if eth.Type() != "veth" {
		return nil, fmt.Errorf("it is a %s device, not a veth", eth.Type())
	}
	peer, err := host.LinkByIndex(eth.Attrs().ParentIndex)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, errors.New("it is not in the host's network")
	}
	if err != nil {
		return nil, err
	}
	boxID, err := host.GetNetNsIdByFd(int(box))
	if err != nil {
		return nil, fmt.Errorf("asking for the namespace's id: %w", err)
	}
	attrs := peer.Attrs()
	if peer.Type() != "veth" || attrs.ParentIndex != eth.Attrs().Index || attrs.NetNsID != boxID {
		return nil, errors.New("it is not in the host's network")
	}
	return attrs, nil
}
