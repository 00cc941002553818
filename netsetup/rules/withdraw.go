package rules

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Removal is lines for the restore of a family of iptables, and the family's rules as kept.
type Removal struct {
	Kept  *Kept // nil for a tool whose rules nobody keeps
	Lines []string
}

// errOtherwise is the error of Withdraw where the programs of iptables have to do the work.
var errOtherwise = errors.New("no removal for the kernel's nftables")

// Withdraw does removals at once, in a single transaction of the kernel's nftables for all tables and families: iptables
// makes a transaction of each table, and the kernel takes some ten milliseconds for the end of each. With an error nothing
// is removed: where a line does more than delete rules (-D) and chains (-F, -X), where the kept rules are not the kernel's
// any more, and with the legacy backend.
func Withdraw(all ...Removal) error {
	b := batch{}
	for _, r := range all {
		if len(r.Lines) == 0 {
			continue
		}
		if r.Kept == nil || r.Kept.tables == nil || !r.Kept.numbered || b.generation != 0 && b.generation != r.Kept.generation {
			return errOtherwise
		}
		b.generation, b.family = r.Kept.generation, protocol(r.Kept.tool)
		for _, table := range tablesOf(r.Lines) {
			if err := b.addTable(r.Kept.tables, table[0], table[1:]); err != nil {
				return err
			}
		}
	}
	return b.send()
}

// protocol returns the family of a tool in messages of nfnetlink.
func protocol(tool string) byte {
	if tool == "ip6tables" {
		return unix.NFPROTO_IPV6
	}
	return unix.NFPROTO_IPV4
}

// batch is a transaction: messages of nfnetlink for rules as of a generation.
type batch struct {
	generation uint32
	family     byte // of the next message
	messages   []byte
	last       int // where the last message begins
	count      uint32
}

// addTable adds the lines of a table.
func (b *batch) addTable(have Tables, table string, lines []string) error {
	deleted := map[string][]string{} // texts by chain
	for _, line := range lines {
		verb, rest, _ := strings.Cut(line, " ")
		chain, text, _ := strings.Cut(rest, " ")
		switch verb {
		case "-D":
			deleted[chain] = append(deleted[chain], text)
		case "-F", "-X":
		default:
			return errOtherwise
		}
	}
	for chain, texts := range deleted {
		if err := b.addRules(table, chain, have.Rules(table, chain), texts); err != nil {
			return err
		}
	}
	for _, line := range lines {
		chain, flush := strings.CutPrefix(line, "-F ")
		if flush {
			b.add(unix.NFT_MSG_DELRULE, attribute(unix.NFTA_RULE_TABLE, table), attribute(unix.NFTA_RULE_CHAIN, chain))
		}
	}
	for _, line := range lines {
		if chain, remove := strings.CutPrefix(line, "-X "); remove {
			b.add(unix.NFT_MSG_DELCHAIN, attribute(unix.NFTA_CHAIN_TABLE, table), attribute(unix.NFTA_CHAIN_NAME, chain))
		}
	}
	return nil
}

// addRules adds the deletion of the rules of a chain with some texts. iptables-save prints rules in the kernel's order.
func (b *batch) addRules(table, chain string, have []Rule, texts []string) error {
	handles, err := handlesOf(b.family, table, chain)
	if err != nil || len(handles) != len(have) {
		return errors.Join(errOtherwise, err)
	}
	for _, text := range texts {
		i := slices.IndexFunc(have, func(r Rule) bool { return r.Text == text })
		if i < 0 || handles[i] == nil { // unknown, or deleted by an earlier line
			return errOtherwise
		}
		b.add(unix.NFT_MSG_DELRULE, attribute(unix.NFTA_RULE_TABLE, table), attribute(unix.NFTA_RULE_CHAIN, chain),
			nl.NewRtAttr(unix.NFTA_RULE_HANDLE, handles[i]))
		handles[i] = nil
	}
	return nil
}

// handlesOf returns the kernel's handles of the rules of a chain, in the order of the chain.
func handlesOf(family byte, table, chain string) (handles [][]byte, err error) {
	answers, err := askNFT(unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP, family,
		attribute(unix.NFTA_RULE_TABLE, table), attribute(unix.NFTA_RULE_CHAIN, chain))
	for _, rule := range answers { // older kernels list all chains
		if unix.ByteSliceToString(rule[unix.NFTA_RULE_TABLE].Value) == table &&
			unix.ByteSliceToString(rule[unix.NFTA_RULE_CHAIN].Value) == chain {
			handles = append(handles, rule[unix.NFTA_RULE_HANDLE].Value)
		}
	}
	return handles, err
}

func attribute(kind int, name string) *nl.RtAttr { return nl.NewRtAttr(kind, nl.ZeroTerminated(name)) }

// add adds a message of nftables.
func (b *batch) add(message int, of ...*nl.RtAttr) {
	b.append(unix.NFNL_SUBSYS_NFTABLES<<8|message, b.family, 0, of...)
}

// append adds a message of nfnetlink, with the message's number in the batch as its sequence number.
func (b *batch) append(kind int, family byte, resource uint16, of ...*nl.RtAttr) {
	body := binary.BigEndian.AppendUint16([]byte{family, unix.NFNETLINK_V0}, resource)
	for _, a := range of {
		body = append(body, a.Serialize()...)
	}
	b.count++
	b.last = len(b.messages)
	header := unix.NlMsghdr{Len: uint32(unix.SizeofNlMsghdr + len(body)), Type: uint16(kind), Flags: unix.NLM_F_REQUEST, Seq: b.count}
	b.messages, _ = binary.Append(b.messages, binary.NativeEndian, header) // a fixed size is never an error
	b.messages = append(b.messages, body...)
}

// send has the kernel do the transaction, if its rules are still those of the generation.
func (b *batch) send() error {
	if b.count == 0 {
		return errOtherwise
	}
	binary.NativeEndian.PutUint16(b.messages[b.last+flagsAt:], unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	whole := batch{}
	whole.append(unix.NFNL_MSG_BATCH_BEGIN, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES,
		nl.NewRtAttr(unix.NFNL_BATCH_GENID, binary.BigEndian.AppendUint32(nil, b.generation)))
	whole.messages = append(whole.messages, b.messages...)
	whole.append(unix.NFNL_MSG_BATCH_END, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	socket, err := nl.Subscribe(unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer socket.Close()
	if err := socket.SetReceiveTimeout(&unix.Timeval{Sec: 30}); err != nil {
		return err
	}
	if err := unix.Sendto(socket.GetFd(), whole.messages, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("sending a removal to nftables: %w", err)
	}
	return acknowledged(socket)
}

// flagsAt is where a header of netlink has the flags.
const flagsAt = 6

// acknowledged waits for the answer to the last message of a transaction, or for the first error: of others the kernel tells
// unasked, and a socket has room for some 250 answers. The kernel answers after the transaction; after an error the
// transaction has not been.
func acknowledged(socket *nl.NetlinkSocket) error {
	for {
		answers, _, err := socket.Receive()
		if err != nil {
			return fmt.Errorf("waiting for nftables: %w", err)
		}
		for _, a := range answers {
			if a.Header.Type != unix.NLMSG_ERROR || len(a.Data) < 4 {
				continue
			}
			if code := int32(binary.NativeEndian.Uint32(a.Data)); code != 0 {
				return fmt.Errorf("nftables refuses message %d of a removal: %w", a.Header.Seq, syscall.Errno(-code))
			}
			return nil
		}
	}
}
