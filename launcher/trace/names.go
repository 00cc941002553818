package trace

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"boxrun/netsetup/rules"
)

// names knows rules by the numbers of the kernel. The kernel gives a number to no other rule of the table later, so a
// name stays right when rules come and go.
type names map[ruleID]string

type ruleID struct {
	family byte
	table  string
	handle uint64
}

// chainID names a chain of iptables.
type chainID struct{ table, chain string }

// of returns the rule of a step as package firewall names rules: "iptables -t filter -A FORWARD -j DROP", or "nft rule
// inet site forward handle 5".
func (n names) of(s step) string {
	family := familyName(s.family)
	id := ruleID{s.family, s.table, s.handle}
	switch {
	case s.handle == 0 && s.ofIptables():
		return fmt.Sprintf("%s -t %s -P %s DROP", rules.Tool(s.src.Addr()), s.table, s.chain)
	case s.handle == 0:
		return fmt.Sprintf("nft chain %s %s %s { policy drop; }", family, s.table, s.chain)
	case n[id] == "" && s.ofIptables():
		n.readFor([]netip.Addr{s.src.Addr()})
	}
	if n[id] == "" {
		n[id] = fmt.Sprintf("nft rule %s %s %s handle %d", family, s.table, s.chain, s.handle)
	}
	return n[id]
}

// ofIptables reports whether the step is in a table of iptables-nft.
func (s step) ofIptables() bool {
	tables := []string{"raw", "mangle", "nat", "filter", "security"}
	return (s.family == unix.NFPROTO_IPV4 || s.family == unix.NFPROTO_IPV6) && slices.Contains(tables, s.table)
}

// readFor names all rules about packets with such addresses.
func (n names) readFor(addrs []netip.Addr) {
	for _, addr := range addrs {
		n.read(familyOf(addr), rules.Tool(addr))
	}
}

// familyOf returns the family of tables for packets with addresses like addr.
func familyOf(addr netip.Addr) byte {
	if addr.Is6() {
		return unix.NFPROTO_IPV6
	}
	return unix.NFPROTO_IPV4
}

// read names all rules of a family in the words of its tool, iptables or ip6tables. The kernel lists the rules of a chain
// in the order of the tool. A chain changed in between, or with rules the tool cannot show, stays without names. Without
// the tool all chains do.
func (n names) read(family byte, tool string) {
	handles, err := handles(family)
	if err != nil {
		return
	}
	tables, _ := rules.Save(tool)
	for _, table := range tables {
		for _, chain := range table.Chains {
			known := handles[chainID{table.Name, chain.Name}]
			if len(known) != len(chain.Rules) {
				continue
			}
			for i, handle := range known {
				n[ruleID{family, table.Name, handle}] = table.Command(chain.Name, chain.Rules[i])
			}
		}
	}
}

// handles returns the kernel's numbers of all rules of a family, in the order of each chain.
func handles(family byte) (map[chainID][]uint64, error) {
	answers, err := nftRequest(family, unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP).Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil {
		return nil, fmt.Errorf("listing the rules of nftables: %w", err)
	}
	found := map[chainID][]uint64{}
	for _, a := range answers {
		if len(a) < nl.SizeofNfgenmsg {
			continue
		}
		attributes, err := nl.ParseRouteAttrAsMap(a[nl.SizeofNfgenmsg:])
		if err != nil {
			return nil, err
		}
		name := func(kind uint16) string { return unix.ByteSliceToString(attributes[kind].Value) }
		id := chainID{name(unix.NFTA_RULE_TABLE), name(unix.NFTA_RULE_CHAIN)}
		found[id] = append(found[id], uint64(be(attributes[unix.NFTA_RULE_HANDLE].Value)))
	}
	return found, nil
}

// familyName returns nft's word for a family of tables.
func familyName(family byte) string {
	switch family {
	case unix.NFPROTO_IPV4:
		return "ip"
	case unix.NFPROTO_IPV6:
		return "ip6"
	case unix.NFPROTO_INET:
		return "inet"
	case unix.NFPROTO_BRIDGE:
		return "bridge"
	case unix.NFPROTO_NETDEV:
		return "netdev"
	}
	return fmt.Sprint(family)
}
