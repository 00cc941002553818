package dump

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ForgetMatching deletes the tracked connections of a family, of any protocol, for which match says yes. A kernel without
// a list of connections tracks none.
func ForgetMatching(h *netlink.Handle, family int, match func(*netlink.ConntrackFlow) bool) error {
	_, err := Retry(func() (uint, error) {
		return h.ConntrackDeleteFilters(netlink.ConntrackTable, netlink.InetFamily(family), flowMatch(match))
	})
	if err = tracking(err); err != nil {
		return fmt.Errorf("deleting tracked connections: %w", err)
	}
	return nil
}

// ForgetFlows deletes tracked connections of tcp, udp and sctp in the network of this process. A connection that has ended
// meanwhile is no error. The kernel finds each by its addresses and ports, where a list takes the kernel milliseconds,
// however short the list.
func ForgetFlows(flows []*netlink.ConntrackFlow) error {
	for _, flow := range flows {
		if _, err := deletion(flow).Execute(unix.NETLINK_NETFILTER, 0); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("deleting a tracked connection: %w", err)
		}
	}
	return nil
}

// deletion returns the request that deletes one connection, as linux/netfilter/nfnetlink_conntrack.h has it.
func deletion(flow *netlink.ConntrackFlow) *nl.NetlinkRequest {
	from, to := nl.CTA_IP_V4_SRC, nl.CTA_IP_V4_DST
	if flow.FamilyType == unix.AF_INET6 {
		from, to = nl.CTA_IP_V6_SRC, nl.CTA_IP_V6_DST
	}
	f := flow.Forward
	tuple := nl.NewRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_ORIG, nil)
	ip := tuple.AddRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_IP, nil)
	ip.AddRtAttr(from, f.SrcIP)
	ip.AddRtAttr(to, f.DstIP)
	proto := tuple.AddRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_PROTO, nil)
	proto.AddRtAttr(nl.CTA_PROTO_NUM, nl.Uint8Attr(f.Protocol))
	proto.AddRtAttr(nl.CTA_PROTO_SRC_PORT, nl.BEUint16Attr(f.SrcPort))
	proto.AddRtAttr(nl.CTA_PROTO_DST_PORT, nl.BEUint16Attr(f.DstPort))

	req := nl.NewNetlinkRequest(int(netlink.ConntrackTable)<<8|nl.IPCTNL_MSG_CT_DELETE, unix.NLM_F_ACK)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: flow.FamilyType, Version: nl.NFNETLINK_V0})
	req.AddData(tuple)
	if flow.Zone != 0 {
		req.AddData(nl.NewRtAttr(nl.CTA_ZONE, nl.BEUint16Attr(flow.Zone)))
	}
	return req
}

// Flows returns the tracked connections of all families in the network of this thread: their addresses, ports and zone. A
// kernel without a list of connections tracks none.
func Flows() ([]*netlink.ConntrackFlow, error) {
	if flows, few := fewFlows(); few {
		return flows, nil
	}
	flows, err := Retry(listedFlows)
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
