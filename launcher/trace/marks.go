package trace

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"syscall"

	"boxrun/profiles/port"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// markTable begins the name of a table with rules to mark packets. The number of the process follows.
const markTable = "boxrun-trace-"

// markPriority is the place of the chains in their hooks: before iptables' raw, and all else.
const markPriority = -350

// The owner flag of a table: only the owner's socket changes the table, and the table goes with the socket (Linux 5.12
// and newer). The library golang.org/x/sys lacks the name.
const tableOwned = 0x2

// openMarks makes a table of nftables for each family of the filter, to mark packets, as nft would by
//
//	table ip boxrun-trace-PID { flags owner; chain prerouting { type filter hook prerouting priority -350;
//	    tcp flags & syn == 0 accept
//	    ip saddr 10.22.0.2 limit rate 20/second meta nftrace set 1
//	    ip daddr 10.22.0.2 limit rate 20/second meta nftrace set 1
//	    tcp dport 8080 limit rate 20/second meta nftrace set 1 } }
//
// and so in the hook output. Of tcp connections only the first packets of both sides are marked: the rest takes the
// same way, or conntrack's. Closing the socket takes the table away. (The library google/nftables 0.3 cannot set flags
// of a table, and the program nft keeps a table no longer than its own run.)
func openMarks(f filter) (*nl.NetlinkSocket, error) {
	s, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("opening a socket of netfilter: %w", err)
	}
	requests := markRequests(f)
	if err := transact(s, requests); err != nil {
		s.Close()
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) {
			return nil, fmt.Errorf("this kernel cannot trace rules and leave nothing behind (Linux 5.12 or newer can): %w", err)
		}
		return nil, fmt.Errorf("marking packets by nftables: %w", err)
	}
	return s, nil
}

// markRequests returns the requests for the table, the chains and the rules.
func markRequests(f filter) []*nl.NetlinkRequest {
	var requests []*nl.NetlinkRequest
	for _, addr := range f.addrs {
		requests = append(requests, markFamily(addr, f.ports)...)
	}
	return requests
}

// markFamily returns the requests for the family of an address of the box.
func markFamily(addr netip.Addr, ports []port.Port) []*nl.NetlinkRequest {
	table, family := markTable+strconv.Itoa(os.Getpid()), familyOf(addr)
	requests := []*nl.NetlinkRequest{nftRequest(family, unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE,
		text(unix.NFTA_TABLE_NAME, table), be32(unix.NFTA_TABLE_FLAGS, tableOwned))}
	priority := int32(markPriority)
	for hook, chain := range map[uint32]string{unix.NF_INET_PRE_ROUTING: "prerouting", unix.NF_INET_LOCAL_OUT: "output"} {
		requests = append(requests, nftRequest(family, unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE,
			text(unix.NFTA_CHAIN_TABLE, table), text(unix.NFTA_CHAIN_NAME, chain), text(unix.NFTA_CHAIN_TYPE, "filter"),
			nest(unix.NFTA_CHAIN_HOOK, be32(unix.NFTA_HOOK_HOOKNUM, hook), be32(unix.NFTA_HOOK_PRIORITY, uint32(priority)))))
		for _, expressions := range markRules(addr, ports) {
			requests = append(requests, nftRequest(family, unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND,
				text(unix.NFTA_RULE_TABLE, table), text(unix.NFTA_RULE_CHAIN, chain),
				nest(unix.NFTA_RULE_EXPRESSIONS, expressions...)))
		}
	}
	return requests
}

// markRules returns the rules of a chain, as lists of the kernel's expressions.
func markRules(addr netip.Addr, ports []port.Port) [][]*nl.RtAttr {
	const dport, flags = 2, 13 // offsets in the header of tcp
	h := headerFor(addr)
	is := func(protocol byte) []*nl.RtAttr {
		return []*nl.RtAttr{payload(unix.NFT_PAYLOAD_NETWORK_HEADER, h.proto, 1), compare(unix.NFT_CMP_EQ, protocol)}
	}
	established := append(is(unix.IPPROTO_TCP), payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, flags, 1),
		masked(2), compare(unix.NFT_CMP_EQ, 0), accept())
	rules := [][]*nl.RtAttr{established}
	for _, offset := range []uint32{h.src, h.dst} {
		is := []*nl.RtAttr{payload(unix.NFT_PAYLOAD_NETWORK_HEADER, offset, h.length), compare(unix.NFT_CMP_EQ, addr.AsSlice()...)}
		rules = append(rules, append(is, mark()...))
	}
	for _, p := range ports {
		rule := append(is(byte(protoNumber(p.Proto))), payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, dport, 2))
		rules = append(rules, append(append(rule, within(p)...), mark()...))
	}
	return rules
}

func within(p port.Port) []*nl.RtAttr {
	return []*nl.RtAttr{
		compare(unix.NFT_CMP_GTE, binary.BigEndian.AppendUint16(nil, p.Host)...),
		compare(unix.NFT_CMP_LTE, binary.BigEndian.AppendUint16(nil, p.Host+p.Count-1)...),
	}
}

// mark sets nftrace, for at most 20 packets a second.
func mark() []*nl.RtAttr {
	return []*nl.RtAttr{
		expression("limit", be64(unix.NFTA_LIMIT_RATE, 20), be64(unix.NFTA_LIMIT_UNIT, 1), be32(unix.NFTA_LIMIT_BURST, 20)),
		expression("immediate", be32(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_1), value(unix.NFTA_IMMEDIATE_DATA, 1)),
		expression("meta", be32(unix.NFTA_META_KEY, unix.NFT_META_NFTRACE), be32(unix.NFTA_META_SREG, unix.NFT_REG_1)),
	}
}

func accept() *nl.RtAttr {
	return expression("immediate", be32(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT),
		nest(unix.NFTA_IMMEDIATE_DATA, nest(unix.NFTA_DATA_VERDICT, be32(unix.NFTA_VERDICT_CODE, nfAccept))))
}

func payload(base, offset, length uint32) *nl.RtAttr {
	return expression("payload", be32(unix.NFTA_PAYLOAD_DREG, unix.NFT_REG_1), be32(unix.NFTA_PAYLOAD_BASE, base),
		be32(unix.NFTA_PAYLOAD_OFFSET, offset), be32(unix.NFTA_PAYLOAD_LEN, length))
}

func compare(how uint32, bytes ...byte) *nl.RtAttr {
	return expression("cmp", be32(unix.NFTA_CMP_SREG, unix.NFT_REG_1), be32(unix.NFTA_CMP_OP, how),
		value(unix.NFTA_CMP_DATA, bytes...))
}

func masked(bits byte) *nl.RtAttr {
	return expression("bitwise",
		be32(unix.NFTA_BITWISE_SREG, unix.NFT_REG_1), be32(unix.NFTA_BITWISE_DREG, unix.NFT_REG_1), be32(unix.NFTA_BITWISE_LEN, 1), value(unix.NFTA_BITWISE_MASK, bits),
		value(unix.NFTA_BITWISE_XOR, 0))
}

func expression(name string, data ...*nl.RtAttr) *nl.RtAttr {
	return nest(unix.NFTA_LIST_ELEM, text(unix.NFTA_EXPR_NAME, name), nest(unix.NFTA_EXPR_DATA, data...))
}

// value holds bytes to compare with, or to put into a register.
func value(kind int, bytes ...byte) *nl.RtAttr {
	return nest(kind, nl.NewRtAttr(unix.NFTA_DATA_VALUE, bytes))
}

func nest(kind int, children ...*nl.RtAttr) *nl.RtAttr {
	a := nl.NewRtAttr(kind|unix.NLA_F_NESTED, nil)
	for _, c := range children {
		a.AddChild(c)
	}
	return a
}

func text(kind int, value string) *nl.RtAttr { return nl.NewRtAttr(kind, nl.ZeroTerminated(value)) }
func be32(kind int, value uint32) *nl.RtAttr { return nl.NewRtAttr(kind, nl.BEUint32Attr(value)) }
func be64(kind int, value uint64) *nl.RtAttr { return nl.NewRtAttr(kind, nl.BEUint64Attr(value)) }
func nfBegin(family byte, resource uint16) []byte {
	return []byte{family, 0, byte(resource >> 8), byte(resource)}
}

// nftRequest returns a request about a family's part of nftables.
func nftRequest(family byte, message, flags int, attributes ...*nl.RtAttr) *nl.NetlinkRequest {
	r := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|message, flags)
	body := nfBegin(family, 0)
	for _, a := range attributes {
		body = append(body, a.Serialize()...)
	}
	r.AddRawData(body)
	return r
}

// transact sends requests: all succeed, or none. The error is the kernel's first.
func transact(s *nl.NetlinkSocket, requests []*nl.NetlinkRequest) error {
	var batch []byte
	edge := func(message int) {
		r := nl.NewNetlinkRequest(message, 0)
		r.AddRawData(nfBegin(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES))
		batch = append(batch, r.Serialize()...)
	}
	edge(unix.NFNL_MSG_BATCH_BEGIN)
	for _, r := range requests {
		r.Flags |= unix.NLM_F_ACK
		batch = append(batch, r.Serialize()...)
	}
	edge(unix.NFNL_MSG_BATCH_END)
	if err := unix.Sendto(s.GetFd(), batch, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	if err := s.SetReceiveTimeout(&unix.Timeval{Sec: 2}); err != nil {
		return err
	}
	for answered := 0; answered < len(requests); {
		messages, _, err := s.Receive()
		if err != nil {
			return err
		}
		for _, m := range messages {
			if err := answer(m); err != nil {
				return err
			}
			answered++
		}
	}
	return nil
}

// answer returns the error in the kernel's answer to a request; nil where the request succeeded.
func answer(m syscall.NetlinkMessage) error {
	if m.Header.Type != unix.NLMSG_ERROR || len(m.Data) < 4 {
		return nil
	}
	if code := int32(binary.NativeEndian.Uint32(m.Data)); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}
