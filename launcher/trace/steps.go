package trace

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"boxrun/netsetup/rules"
)

// step is what a marked packet met on its way through nftables: a rule, or the policy of a chain.
type step struct {
	packet
	family       byte
	table, chain string
	handle       uint64 // of the rule; 0: the policy of the chain
	verdict      int32
}

// Verdicts, as the kernel counts them.
const (
	nfDrop    = 0
	nfAccept  = 1
	nftReturn = -5
)

// stepWatch hears of the steps of a box's packets.
type stepWatch struct {
	marks, steps *nl.NetlinkSocket
	packets      map[uint32]packet // by the kernel's number for the packet
}

// errLegacy is the error where tables of iptables' legacy backend are in use: those tables would write each marked
// packet to the kernel's log.
var errLegacy = errors.New("rules of iptables-legacy cannot be traced")

// watchSteps begins to watch.
func watchSteps(f filter) (*stepWatch, error) {
	for _, addr := range f.addrs {
		if rules.LegacyUsed(rules.Tool(addr)) {
			return nil, errLegacy
		}
	}
	steps, err := nl.Subscribe(unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTRACE)
	if err != nil {
		return nil, fmt.Errorf("listening to the trace of nftables: %w", err)
	}
	marks, err := openMarks(f)
	if err != nil {
		steps.Close()
		return nil, err
	}
	return &stepWatch{marks, steps, map[uint32]packet{}}, nil
}

// close ends the watch, and a next still waiting.
func (w *stepWatch) close() {
	w.marks.Close()
	w.steps.Close()
}

// next waits for steps. The error is os.ErrClosed after close. Where the kernel had more to tell than there was room
// for, what did not fit is lost.
func (w *stepWatch) next() ([]step, error) {
	for {
		messages, _, err := w.steps.Receive()
		if errors.Is(err, unix.ENOBUFS) {
			continue
		}
		if err != nil {
			return nil, err
		}
		var found []step
		for _, m := range messages {
			if m.Header.Type != unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_TRACE || len(m.Data) < nl.SizeofNfgenmsg {
				continue
			}
			if s, ok := w.decode(m.Data[0], m.Data[nl.SizeofNfgenmsg:]); ok {
				found = append(found, s)
			}
		}
		if len(found) > 0 {
			return found, nil
		}
	}
}

// decode takes a message apart, and reports whether a person wants to know the step. Steps in the table of marks, ends
// of chains and accepting policies are of no interest.
func (w *stepWatch) decode(family byte, message []byte) (step, bool) {
	attributes, err := nl.ParseRouteAttrAsMap(message)
	if err != nil {
		return step{}, false
	}
	number := func(kind uint16) uint32 { return be(attributes[kind].Value) }
	name := func(kind uint16) string { return unix.ByteSliceToString(attributes[kind].Value) }
	id := number(unix.NFTA_TRACE_ID)
	ip, transport := attributes[unix.NFTA_TRACE_NETWORK_HEADER].Value, attributes[unix.NFTA_TRACE_TRANSPORT_HEADER].Value
	if p, ok := parsePacket(ip, transport); ok {
		w.remember(id, p, int(number(unix.NFTA_TRACE_IIF)))
	}
	s := step{packet: w.packets[id], family: family, table: name(unix.NFTA_TRACE_TABLE), chain: name(unix.NFTA_TRACE_CHAIN)}
	if strings.HasPrefix(s.table, markTable) {
		return step{}, false
	}
	switch number(unix.NFTA_TRACE_TYPE) {
	case unix.NFT_TRACETYPE_RULE:
		s.handle = uint64(be(attributes[unix.NFTA_TRACE_RULE_HANDLE].Value))
		s.verdict = verdict(attributes[unix.NFTA_TRACE_VERDICT].Value)
		return s, s.handle != 0 && s.verdict != nftReturn // 0: the end of a chain
	case unix.NFT_TRACETYPE_POLICY:
		s.verdict = int32(number(unix.NFTA_TRACE_POLICY))
		return s, s.verdict == nfDrop
	}
	return step{}, false
}

// maxPackets limits how many packets are remembered on their way.
const maxPackets = 1024

// remember keeps a packet: the kernel tells its headers once for each chain of a hook.
func (w *stepWatch) remember(id uint32, p packet, iif int) {
	if len(w.packets) > maxPackets {
		clear(w.packets)
	}
	p.iif = iif
	w.packets[id] = p
}

// verdict returns the verdict in an attribute.
func verdict(value []byte) int32 {
	attributes, err := nl.ParseRouteAttrAsMap(value)
	if err != nil {
		return nfAccept
	}
	return int32(be(attributes[unix.NFTA_VERDICT_CODE].Value))
}

// be returns the last four bytes of a number in the order of networks, 0 for none.
func be(value []byte) uint32 {
	if len(value) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(value[len(value)-4:])
}
