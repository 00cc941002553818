package lan

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"boxrun/netsetup/dump"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Inside returns the addresses of a device in the network of a process, those of IPv4 before those of IPv6, the first ones
// first; none for a device that is not there. The error is os.ErrNotExist where there is no such process.
func Inside(pid int, device string) ([]netip.Prefix, error) {
	return dump.LookInto(pid, func(_ netns.NsHandle, inside *netlink.Handle) ([]netip.Prefix, error) {
		link, err := inside.LinkByName(device)
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading %q in the network of process %d: %w", device, pid, err)
		}
		four, err := global(inside, link, netlink.FAMILY_V4)
		if err != nil {
			return nil, err
		}
		six, err := global(inside, link, netlink.FAMILY_V6)
		return append(four, six...), err
	})
}

// Detects reports whether the kernel looks for duplicates of an IPv6 address that a device in the network of a process is to
// have for others. The error is os.ErrNotExist where there is no such process.
func Detects(pid int, device string) (bool, error) {
	return dump.LookInto(pid, func(_ netns.NsHandle, inside *netlink.Handle) (bool, error) {
		link, err := inside.LinkByName(device)
		if err != nil {
			return false, fmt.Errorf("reading %q in the network of process %d: %w", device, pid, err)
		}
		list, err := dump.Addrs(inside, link, netlink.FAMILY_V6)
		return slices.ContainsFunc(list, func(a netlink.Addr) bool {
			return a.Scope == unix.RT_SCOPE_UNIVERSE && a.Flags&unix.IFA_F_TENTATIVE != 0 && a.Flags&unix.IFA_F_DADFAILED == 0
		}), err
	})
}

// HasRouter reports whether the main table in the network of a process has a default route of IPv4 by a device. The error is
// os.ErrNotExist where there is no such process.
func HasRouter(pid int, device string) (bool, error) {
	return dump.LookInto(pid, func(_ netns.NsHandle, inside *netlink.Handle) (bool, error) {
		s, err := Both{LAN: Leg{Device: device}}.seen(inside, netlink.FAMILY_V4)
		return s.gateway.IsValid(), err
	})
}
