package netsetup

import (
	"errors"
	"fmt"
	"net/netip"

	"boxrun/netsetup/dump"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Link is how a box is connected, as seen from inside the box's network namespace and from the host's bridge.
type Link struct {
	Addr      netip.Prefix // the global IPv4 address of the interface inside
	Name      string       // the interface inside
	Veth      string       // its other end, on the host: on the bridge, unless somebody took the veth off
	VethIndex int
}

// ErrNoAddress is in the chain of the error where a process is there, but its network has no address, not yet or no
// longer.
var ErrNoAddress = errors.New("no address")

// BoxLink returns the address and the veth of the interface ifname in the network namespace of a process. The process
// is the box's init; Apptainer's master lives in the host's network. The error wraps os.ErrNotExist where there is no
// such process, and ErrNoAddress where the interface or its address is missing. An interface without a peer veth on a
// bridge of the caller's namespace is an error, too.
func BoxLink(pid int, ifname string) (Link, error) {
	return dump.LookInto(pid, func(ns netns.NsHandle, inside *netlink.Handle) (Link, error) {
		eth, err := inside.LinkByName(ifname)
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			return Link{}, fmt.Errorf("no interface %q in the network of process %d: %w", ifname, pid, ErrNoAddress)
		}
		if err != nil {
			return Link{}, fmt.Errorf("reading %q in the network of process %d: %w", ifname, pid, err)
		}
		addrs, err := globalAddrs(inside, eth, netlink.FAMILY_V4)
		if err == nil && len(addrs) == 0 {
			err = ErrNoAddress
		}
		if err != nil {
			return Link{}, fmt.Errorf("%q in the network of process %d: %w", ifname, pid, err)
		}
		veth, err := hostEnd(ns, eth)
		if err != nil {
			return Link{}, fmt.Errorf("finding the other end of %q of process %d: %w", ifname, pid, err)
		}
		return Link{Addr: addrs[0], Name: ifname, Veth: veth.Name, VethIndex: veth.Index}, nil
	})
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
func hostEnd(box netns.NsHandle, eth netlink.Link) (*netlink.LinkAttrs, error) {
	if eth.Type() != "veth" {
		return nil, fmt.Errorf("it is a %s device, not a veth", eth.Type())
	}
	host := dump.OfHost()
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
