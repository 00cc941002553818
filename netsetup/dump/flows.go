package dump

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ForgetFlows deletes the tracked connections of a family for which match says yes. A kernel without a list of connections
// tracks none.
func ForgetFlows(h *netlink.Handle, family int, match func(*netlink.ConntrackFlow) bool) error {
	_, err := Retry(func() (uint, error) {
		return h.ConntrackDeleteFilters(netlink.ConntrackTable, netlink.InetFamily(family), flowMatch(match))
	})
	without := []error{unix.EINVAL, unix.EOPNOTSUPP, unix.EPROTONOSUPPORT, unix.ENOENT} // of a kernel without tracking
	if err == nil || slices.ContainsFunc(without, func(expected error) bool { return errors.Is(err, expected) }) {
		return nil
	}
	return fmt.Errorf("deleting tracked connections: %w", err)
}

// flowMatch makes a function a filter.
type flowMatch func(*netlink.ConntrackFlow) bool

// MatchConntrackFlow is what netlink calls.
func (m flowMatch) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool { return m(flow) }

// AddrOf converts an address. The result for nil is the zero Addr.
func AddrOf(ip []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}
