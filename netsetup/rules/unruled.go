package rules

import (
	"encoding/binary"
	"maps"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// builtIn returns the built-in chains of the tables of iptables.
func builtIn() map[string][]string {
	return map[string][]string{
		"raw":      {"PREROUTING", "OUTPUT"},
		"mangle":   {"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"},
		"nat":      {"PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"},
		"filter":   {"INPUT", "FORWARD", "OUTPUT"},
		"security": {"INPUT", "FORWARD", "OUTPUT"},
	}
}

// unruled returns what the save of a tool with the backend nftables prints where no rule is in the tables of iptables: of each
// table that is there, the built-in chains, be they there or not. bare is false where there is a rule, or a chain of
// somebody's own: how iptables shows such a thing, if iptables can, the program alone knows. No program is started.
func unruled(tool string) (said string, bare bool) {
	chains, err := askNFT(unix.NFT_MSG_GETCHAIN, unix.NLM_F_DUMP, protocol(tool))
	if err != nil {
		return "", false
	}
	tables, text := builtIn(), map[string]string{} // of the tables that are there
	for _, c := range chains {
		table, name := unix.ByteSliceToString(c[unix.NFTA_CHAIN_TABLE].Value), unix.ByteSliceToString(c[unix.NFTA_CHAIN_NAME].Value)
		if tables[table] == nil {
			continue
		}
		if !slices.Contains(tables[table], name) || !empty(c) {
			return "", false
		}
		if text[table] == "" {
			text[table] = "*" + table + "\n:" + strings.Join(tables[table], " ACCEPT [0:0]\n:") + " ACCEPT [0:0]\nCOMMIT\n"
		}
		if !accepts(c) {
			text[table] = strings.Replace(text[table], ":"+name+" ACCEPT", ":"+name+" DROP", 1)
		}
	}
	return strings.Join(slices.Collect(maps.Values(text)), ""), true
}

// empty reports whether a chain has no rule: the kernel counts rules among the uses of a chain.
func empty(chain map[uint16]syscall.NetlinkRouteAttr) bool {
	uses := chain[unix.NFTA_CHAIN_USE].Value
	return len(uses) == 4 && binary.BigEndian.Uint32(uses) == 0
}

// accepts reports whether the policy of a chain is ACCEPT, or not known to the kernel.
func accepts(chain map[uint16]syscall.NetlinkRouteAttr) bool {
	const accept = 1
	policy := chain[unix.NFTA_CHAIN_POLICY].Value
	return len(policy) != 4 || binary.BigEndian.Uint32(policy) == accept
}
