package dump

import (
	"encoding/binary"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The kernel keeps the tracked connections of all networks in one table, of 262,144 places on a machine with 4 GB. For a list
// by netlink the kernel locks each place, which takes ten milliseconds however few connections there are. The text
// /proc/net/nf_conntrack takes half of one. But for each page of the text the kernel begins at the first place again, so
// for many connections the list is faster, and kernels may be built without the text (CONFIG_NF_CONNTRACK_PROCFS).

// mostAsText is up to how many connections the text is read.
const mostAsText = 500

// fewFlows returns the tracked connections in the network of this thread where the kernel's text tells them faster than a
// list, and true.
func fewFlows() ([]*netlink.ConntrackFlow, bool) {
	count, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_count")
	n, countErr := strconv.Atoi(strings.TrimSpace(string(count)))
	if err != nil || countErr != nil || n > mostAsText {
		return nil, false
	}
	text, err := os.ReadFile("/proc/thread-self/net/nf_conntrack")
	if err != nil {
		return nil, false
	}
	var flows []*netlink.ConntrackFlow
	for line := range strings.Lines(string(text)) {
		flow, ok := parseFlow(line)
		if !ok {
			return nil, false
		}
		flows = append(flows, flow)
	}
	return flows, true
}

// listedFlows returns the tracked connections in the network of this thread, as netlink lists them. ConntrackTableList of
// package netlink reads the ports of tcp and udp alone.
func listedFlows() ([]*netlink.ConntrackFlow, error) {
	req := nl.NewNetlinkRequest(int(netlink.ConntrackTable)<<8|nl.IPCTNL_MSG_CT_GET, unix.NLM_F_DUMP)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, Version: nl.NFNETLINK_V0})
	messages, err := req.Execute(unix.NETLINK_NETFILTER, 0)
	flows := make([]*netlink.ConntrackFlow, 0, len(messages))
	for _, m := range messages {
		flow := &netlink.ConntrackFlow{FamilyType: m[0]}
		in := maps.Collect(attributes(m[nl.SizeofNfgenmsg:]))
		readTuple(in[nl.CTA_TUPLE_ORIG], &flow.Forward)
		readTuple(in[nl.CTA_TUPLE_REPLY], &flow.Reverse)
		flow.Zone = bigEndian(in[nl.CTA_ZONE])
		flows = append(flows, flow)
	}
	return flows, err
}

// readTuple reads one direction of a connection, as linux/netfilter/nfnetlink_conntrack.h has it.
func readTuple(text []byte, tuple *netlink.IPTuple) {
	in := maps.Collect(attributes(text))
	addresses, protocol := maps.Collect(attributes(in[nl.CTA_TUPLE_IP])), maps.Collect(attributes(in[nl.CTA_TUPLE_PROTO]))
	tuple.SrcIP = slices.Concat(addresses[nl.CTA_IP_V4_SRC], addresses[nl.CTA_IP_V6_SRC]) // one of them is there
	tuple.DstIP = slices.Concat(addresses[nl.CTA_IP_V4_DST], addresses[nl.CTA_IP_V6_DST])
	tuple.SrcPort, tuple.DstPort = bigEndian(protocol[nl.CTA_PROTO_SRC_PORT]), bigEndian(protocol[nl.CTA_PROTO_DST_PORT])
	if number := protocol[nl.CTA_PROTO_NUM]; len(number) > 0 {
		tuple.Protocol = number[0]
	}
}

// bigEndian returns a number of two bytes, 0 for none.
func bigEndian(text []byte) uint16 {
	if len(text) < 2 {
		return 0
	}
	return binary.BigEndian.Uint16(text)
}

// parseFlow reads a line of nf_conntrack: the names and numbers of the family and the protocol, then words such as
// "src=192.0.2.1", those of the first packet's direction before those of the answers (ct_seq_show in
// net/netfilter/nf_conntrack_standalone.c). Zone, addresses and ports are all that is read; false for another form.
func parseFlow(line string) (*netlink.ConntrackFlow, bool) {
	words := strings.Fields(line)
	if len(words) < 4 {
		return nil, false
	}
	family, err := strconv.ParseUint(words[1], 10, 8)
	protocol, protocolErr := strconv.ParseUint(words[3], 10, 8)
	flow := &netlink.ConntrackFlow{FamilyType: uint8(family)}
	flow.Forward.Protocol, flow.Reverse.Protocol = uint8(protocol), uint8(protocol)
	read := tupleReader{next: []*netlink.IPTuple{&flow.Forward, &flow.Reverse}, zone: &flow.Zone}
	for _, word := range words[4:] {
		read.word(word)
	}
	return flow, err == nil && protocolErr == nil && len(read.next) == 0 && !read.wrong
}

// A tupleReader reads the words of a line into the directions of a connection.
type tupleReader struct {
	next  []*netlink.IPTuple // directions of which nothing was read yet
	tuple *netlink.IPTuple   // the direction that words belong to
	zone  *uint16
	wrong bool // a word cannot be read
}

func (r *tupleReader) word(word string) {
	name, value, _ := strings.Cut(word, "=")
	if name == "src" && len(r.next) > 0 {
		r.tuple, r.next = r.next[0], r.next[1:]
	}
	switch {
	case name == "zone":
		*r.zone = r.number(value)
	case r.tuple == nil: // a timeout, a state
	case name == "src":
		r.tuple.SrcIP = r.address(value)
	case name == "dst":
		r.tuple.DstIP = r.address(value)
	case name == "sport":
		r.tuple.SrcPort = r.number(value)
	case name == "dport":
		r.tuple.DstPort = r.number(value)
	}
}

func (r *tupleReader) number(text string) uint16 {
	n, err := strconv.ParseUint(text, 10, 16)
	r.wrong = r.wrong || err != nil
	return uint16(n)
}

func (r *tupleReader) address(text string) []byte {
	addr, err := netip.ParseAddr(text)
	r.wrong = r.wrong || err != nil
	return addr.AsSlice()
}
