package watch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"syscall"

	"boxrun/launcher/box"
	"boxrun/netsetup/dump"
	"boxrun/netsetup/lan"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// watchRoutes tells of changes to links, ports of bridges, addresses, default routes, routes of bridges and of ways to boxes
// on a LAN, routing rules and forwarding (rtnetlink(7)).
func watchRoutes(ctx context.Context, w *watcher) error {
	return w.subscribe(ctx, unix.NETLINK_ROUTE, w.routeChanged,
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV4_NETCONF,
		unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV6_RULE, unix.RTNLGRP_IPV6_NETCONF)
}

// subscribe tells of netlink messages, if matters says so of a message. The kernel drops messages for a slow reader, with
// ENOBUFS: then anything may have changed.
func (w *watcher) subscribe(ctx context.Context, protocol int, matters func(syscall.NetlinkMessage) bool, groups ...uint) error {
	socket, err := nl.Subscribe(protocol, groups...)
	if err != nil {
		return fmt.Errorf("waiting for changes of the network: %w", err)
	}
	context.AfterFunc(ctx, socket.Close)
	go func() {
		for ctx.Err() == nil {
			messages, from, err := socket.Receive()
			switch {
			case errors.Is(err, unix.ENOBUFS) || err == nil && from.Pid == 0 && anyOf(messages, matters):
				w.tell()
			case err != nil && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN):
				w.fail(fmt.Errorf("waiting for changes of the network: %w", err))
				return
			}
		}
	}()
	return nil
}

// anyOf says whether any message matters, and asks of each.
func anyOf(messages []syscall.NetlinkMessage, matters func(syscall.NetlinkMessage) bool) (found bool) {
	for _, m := range messages {
		found = matters(m) || found
	}
	return found
}

// routeChanged is matters, and notes who made the change: sockets of rtnetlink have the number of their process, unless it has
// several.
func (w *watcher) routeChanged(m syscall.NetlinkMessage) bool {
	if !w.matters(m) {
		return false
	}
	w.authors.note(authorOf(int(m.Header.Pid)))
	return true
}

// matters says whether a message of rtnetlink can be about boxes. Routes of routing daemons and links of others are not.
func (w *watcher) matters(m syscall.NetlinkMessage) bool {
	switch m.Header.Type {
	case unix.RTM_NEWADDR: // of IPv6 each advertisement of a router tells of the same addresses, but of ::1 the host's return to IPv6
		return len(m.Data) >= unix.SizeofIfAddrmsg && (m.Data[0] == unix.AF_INET || m.Data[3] == unix.RT_SCOPE_HOST)
	case unix.RTM_DELADDR, unix.RTM_NEWRULE, unix.RTM_DELRULE, unix.RTM_NEWNETCONF:
		return true
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		return routeMatters(m.Data) || m.Header.Type == unix.RTM_DELROUTE && w.ofBridge(m.Data)
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		if dump.OddPort(m.Data) {
			return true
		}
		link, err := netlink.LinkDeserialize(nil, m.Data)
		return err == nil && (w.isBridge(link.Attrs().Name) || lan.IsWay(link) || link.Type() == "veth" && link.Attrs().MasterIndex == 0)
	}
	return false
}

// routeMatters says whether the route of a message is a default route, be it of half the world as those of VPN clients, or
// of a way to a box on a LAN.
func routeMatters(message []byte) bool {
	if len(message) < unix.SizeofRtMsg {
		return false
	}
	route := nl.DeserializeRtMsg(message)
	if route.Dst_len <= 1 {
		return true
	}
	whole := map[uint8]uint8{unix.AF_INET: 32, unix.AF_INET6: 128}[route.Family]
	if route.Dst_len != whole || route.Table != unix.RT_TABLE_MAIN {
		return false
	}
	return lan.ByWay(outOf(message))
}

// outOf returns the index of the device that the route of a message leads to; 0 for none.
func outOf(message []byte) int {
	attrs, err := nl.ParseRouteAttrAsMap(message[unix.SizeofRtMsg:])
	if out := attrs[unix.RTA_OIF].Value; err == nil && len(out) == 4 {
		return int(nl.NativeEndian().Uint32(out))
	}
	return 0
}

// ofBridge says whether the route of a message leads to a bridge with boxes.
func (w *watcher) ofBridge(message []byte) bool {
	if len(message) < unix.SizeofRtMsg || nl.DeserializeRtMsg(message).Table == unix.RT_TABLE_LOCAL {
		return false
	}
	device, err := net.InterfaceByIndex(outOf(message))
	return err == nil && w.isBridge(device.Name)
}

// isBridge says whether a link has the name of a bridge with boxes.
func (w *watcher) isBridge(name string) bool {
	return slices.ContainsFunc(w.store.Records("bridges/*.json"), func(file string) bool {
		return box.NameOf(file) == name
	})
}
