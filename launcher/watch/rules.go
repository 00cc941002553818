package watch

import (
	"bytes"
	"context"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// watchRules tells of changes to rules. The kernel tells of the rules of nft, and of iptables-nft. The kernel is silent
// about iptables-legacy: there the lock of that tells (written.go), and the services boxrun-repair@FIREWALL.
func watchRules(ctx context.Context, w *watcher) error {
	return w.subscribe(ctx, unix.NETLINK_NETFILTER, w.authors.ofRules(concernsBoxes), unix.NFNLGRP_NFTABLES)
}

// concernsBoxes says whether a message of nfnetlink is of a removed table, of a chain that the kernel calls by itself, of
// boxrun's chains, of a built-in chain of iptables, or of a rule in another family than those of iptables. Attributes are
// NUL-terminated names.
func concernsBoxes(m syscall.NetlinkMessage) bool {
	if m.Header.Type>>8 != unix.NFNL_SUBSYS_NFTABLES || len(m.Data) < nl.SizeofNfgenmsg {
		return false
	}
	switch m.Header.Type & 0xff {
	case unix.NFT_MSG_DELTABLE:
		return true
	case unix.NFT_MSG_NEWCHAIN:
		attributes, err := nl.ParseRouteAttrAsMap(m.Data[nl.SizeofNfgenmsg:])
		_, based := attributes[unix.NFTA_CHAIN_HOOK]
		return err != nil || based
	case unix.NFT_MSG_DELCHAIN, unix.NFT_MSG_DELRULE, unix.NFT_MSG_NEWRULE:
		if family := m.Data[0]; family != unix.NFPROTO_IPV4 && family != unix.NFPROTO_IPV6 {
			return true
		}
		return slices.ContainsFunc([]string{"BOXRUN", "FORWARD\x00", "PREROUTING\x00", "POSTROUTING\x00", "INPUT\x00", "OUTPUT\x00"},
			func(name string) bool { return bytes.Contains(m.Data, []byte(name)) })
	}
	return false
}
