package lan

import (
	"errors"
	"fmt"
	"net/netip"

	"boxrun/netsetup/dump"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// Inside returns the IPv4 addresses of a device in the network of a process, the first one first; none for a device
// that is not there. The error is os.ErrNotExist where there is no such process.
func Inside(pid int, device string) ([]netip.Prefix, error) {
	return dump.LookInto(pid, func(_ netns.NsHandle, inside *netlink.Handle) ([]netip.Prefix, error) {
		link, err := inside.LinkByName(device)
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading %q in the network of process %d: %w", device, pid, err)
		}
		return global(inside, link, netlink.FAMILY_V4)
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
