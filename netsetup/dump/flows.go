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
	if err = tracking(err); err != nil {
		return fmt.Errorf("deleting tracked connections: %w", err)
	}
	return nil
}

// Flows returns the tracked connections of all families. A kernel without a list of connections tracks none.
func Flows(h *netlink.Handle) ([]*netlink.ConntrackFlow, error) {
	flows, err := Retry(func() ([]*netlink.ConntrackFlow, error) {
		return h.ConntrackTableList(netlink.ConntrackTable, unix.AF_UNSPEC)
	})
	if err = tracking(err); err != nil {
		return nil, fmt.Errorf("listing tracked connections: %w", err)
	}
	return flows, nil
}

// tracking drops the error of a kernel without tracking.
func tracking(err error) error {
	without := []error{unix.EINVAL, unix.EOPNOTSUPP, unix.EPROTONOSUPPORT, unix.ENOENT}
	if slices.ContainsFunc(without, func(expected error) bool { return errors.Is(err, expected) }) {
		return nil
	}
	return err
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
