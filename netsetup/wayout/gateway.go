package wayout

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"boxrun/netsetup/dump"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Gateway returns where the IPv4 default route of a process's network leads, the zero Addr where there is none.
func Gateway(pid int) (netip.Addr, error) {
	routes, err := dump.LookInto(pid, func(_ netns.NsHandle, h *netlink.Handle) ([]netlink.Route, error) {
		return dump.DefaultRoutes(h, netlink.FAMILY_V4)
	})
	if err != nil {
		return netip.Addr{}, fmt.Errorf("listing the routes of process %d: %w", pid, err)
	}
	if len(routes) == 0 {
		return netip.Addr{}, nil
	}
	return dump.AddrOf(routes[0].Gw), nil
}

// discard is the port of a service that throws packets away (RFC 863). Nobody need listen.
const discard = 9

// Neighbour reports whether an address on the wire of a process's network answers the kernel's question who has the
// address, within a second or until ctx ends. No firewall keeps a neighbour from answering.
func Neighbour(ctx context.Context, pid int, addr netip.Addr) (bool, error) {
	ns, err := dump.Namespace(pid)
	if err != nil {
		return false, err
	}
	defer ns.Close()
	conn, err := dump.DialIn(ctx, ns, "udp4", netip.AddrPortFrom(addr, discard).String())
	if errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer conn.Close()
	if _, err := conn.Write(nil); err != nil && !errors.Is(err, unix.ECONNREFUSED) {
		return false, nil // no way there
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	for ; ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
		known, err := knows(pid, addr)
		if known || err != nil {
			return known, err
		}
	}
	return false, nil
}

// knows reports whether a neighbour has answered.
func knows(pid int, addr netip.Addr) (bool, error) {
	entries, err := dump.LookInto(pid, func(_ netns.NsHandle, h *netlink.Handle) ([]netlink.Neigh, error) {
		return dump.Neighs(h, 0, netlink.FAMILY_V4)
	})
	return slices.ContainsFunc(entries, func(e netlink.Neigh) bool {
		answered := e.State&(unix.NUD_INCOMPLETE|unix.NUD_FAILED) == 0 && len(e.HardwareAddr) > 0
		return answered && dump.AddrOf(e.IP) == addr
	}), err
}
