package dump

import (
	"fmt"

	"github.com/vishvananda/netlink"
)

// Traffic returns the bytes that came in and went out at a device of the host. At the host's end of a veth pair, what
// came in is what the box sent.
func Traffic(device string) (in, out uint64, err error) {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return 0, 0, fmt.Errorf("reading the counters of %s: %w", device, err)
	}
	counted := link.Attrs().Statistics
	if counted == nil {
		return 0, 0, fmt.Errorf("the kernel counts nothing at %s", device)
	}
	return counted.RxBytes, counted.TxBytes, nil
}
