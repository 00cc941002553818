package rules

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ErrNoGeneration is in the chain of the error of Generation where no number tells of changes.
var ErrNoGeneration = errors.New("the kernel does not number the rules of iptables")

// Generation returns the number of the present rules of nftables. Each transaction, be it of nft or of iptables, counts
// the number up: two looks with the same number have seen the same rules. The legacy backend of a tool, iptables or ip6tables,
// has no such number, and a tool whose backend its name does not tell is taken for legacy: no program is started.
func Generation(tool string) (uint32, error) {
	if backend, err := backendByName(tool); err != nil || backend != NFT {
		return 0, errors.Join(ErrNoGeneration, err)
	}
	return generation()
}

// generation is Generation for tools of nftables.
func generation() (uint32, error) {
	answers, err := askNFT(unix.NFT_MSG_GETGEN, 0, unix.AF_UNSPEC)
	if err != nil {
		return 0, errors.Join(ErrNoGeneration, err)
	}
	for _, attributes := range answers {
		if id := attributes[unix.NFTA_GEN_ID].Value; len(id) == 4 {
			return binary.BigEndian.Uint32(id), nil
		}
	}
	return 0, ErrNoGeneration
}

// Translating reports whether others may have rules in the table nat of a tool, iptables or ip6tables. Where it says no,
// there are none: a no costs a message to the kernel, and no program.
func Translating(tool string) bool {
	backend, err := backendByName(tool)
	switch {
	case err != nil || backend == "":
		return true
	case backend == Legacy:
		names, err := os.ReadFile(tableNames(tool))
		return err == nil && slices.Contains(strings.Fields(string(names)), "nat")
	}
	family := byte(unix.NFPROTO_IPV4)
	if tool == "ip6tables" {
		family = unix.NFPROTO_IPV6
	}
	answers, err := askNFT(unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP, family,
		nl.NewRtAttr(unix.NFTA_RULE_TABLE, nl.ZeroTerminated("nat")))
	return err != nil || slices.ContainsFunc(answers, func(rule map[uint16]syscall.NetlinkRouteAttr) bool {
		ours := bytes.HasPrefix(rule[unix.NFTA_RULE_CHAIN].Value, []byte(ChainPrefix)) ||
			bytes.Contains(rule[unix.NFTA_RULE_EXPRESSIONS].Value, []byte(ChainPrefix))
		return !ours && unix.ByteSliceToString(rule[unix.NFTA_RULE_TABLE].Value) == "nat"
	})
}

// BaseChain is a chain that the kernel's nftables calls by itself.
type BaseChain struct{ Family, Table, Name string }

// BaseChains returns the base chains that packets of IPv4 and IPv6 meet, those of iptables, bridges, devices and ARP among
// them. No program is started.
func BaseChains() (all []BaseChain, err error) {
	families := map[byte]string{unix.NFPROTO_INET: "inet", unix.NFPROTO_IPV4: "ip", unix.NFPROTO_IPV6: "ip6", unix.NFPROTO_ARP: "arp",
		unix.NFPROTO_BRIDGE: "bridge", unix.NFPROTO_NETDEV: "netdev"}
	answers, err := askNFT(unix.NFT_MSG_GETCHAIN, unix.NLM_F_DUMP, unix.NFPROTO_UNSPEC)
	if err != nil {
		return nil, fmt.Errorf("reading the chains of nftables: %w", err)
	}
	for _, chain := range answers {
		if _, based := chain[unix.NFTA_CHAIN_HOOK]; based {
			table, name := chain[unix.NFTA_CHAIN_TABLE].Value, chain[unix.NFTA_CHAIN_NAME].Value
			all = append(all, BaseChain{families[chain[familyOf].Value[0]], unix.ByteSliceToString(table), unix.ByteSliceToString(name)})
		}
	}
	return all, nil
}

// familyOf is the attribute of an answer of askNFT with the family. The kernel has no attribute of this number.
const familyOf = 0

// askNFT asks the kernel's nftables, and returns the attributes of each answer.
func askNFT(message, flags int, family byte, of ...*nl.RtAttr) (answers []map[uint16]syscall.NetlinkRouteAttr, err error) {
	request := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|message, flags)
	body := []byte{family, unix.NFNETLINK_V0, 0, 0}
	for _, attribute := range of {
		body = append(body, attribute.Serialize()...)
	}
	request.AddRawData(body) // not AddData: the library would put attributes before the header
	messages, err := request.Execute(unix.NETLINK_NETFILTER, 0)
	for _, m := range messages {
		if len(m) < nl.SizeofNfgenmsg {
			continue
		}
		attributes, err := nl.ParseRouteAttrAsMap(m[nl.SizeofNfgenmsg:])
		if err != nil {
			return nil, err
		}
		attributes[familyOf] = syscall.NetlinkRouteAttr{Value: m[:1]}
		answers = append(answers, attributes)
	}
	return answers, err
}
