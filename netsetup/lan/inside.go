package lan

import (
	"errors"
	"fmt"
	"net/netip"

	"boxrun/netsetup/dump"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
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
		list, err := dump.Addrs(inside, link, netlink.FAMILY_V4)
		var found []netip.Prefix
		for _, a := range list {
			if a.Scope == unix.RT_SCOPE_UNIVERSE {
				found = append(found, dump.PrefixOf(a.IPNet))
			}
		}
		return found, err
	})
}
