package dump

import (
	"errors"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// What the Type of a rule from [Rules] says of a rule without a table, beside unix.RTN_BLACKHOLE, RTN_UNREACHABLE and
// RTN_PROHIBIT, and of a rule that asks for more than package netlink reads.
const (
	Nop    = 3    // FR_ACT_NOP of linux/fib_rules.h: the next rule is asked
	VRF    = 0xfe // the rule is for packets of the devices of VRFs, as each kernel with a VRF has
	Beyond = 0xff // the rule asks for what package netlink 1.3.1 does not know, as dscp or flowlabel
)

// Rules returns the routing rules of the caller's network, in the order of asking. A kernel without the family, or without
// such rules, has none. Package netlink leaves the Type of a rule at zero: where a rule is not one that every kernel has, Rules
// asks the kernel once more and fills in the types.
func Rules(h *netlink.Handle, family int) ([]netlink.Rule, error) {
	list, err := Retry(func() ([]netlink.Rule, error) {
		list, err := h.RuleList(family)
		if err != nil || !slices.ContainsFunc(list, added) {
			return list, err
		}
		return list, fillTypes(list, family)
	})
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil
	}
	return list, err
}

// added reports whether a rule is another than the three that a kernel starts with.
func added(r netlink.Rule) bool {
	return r.Priority != 0 && r.Priority != 32766 && r.Priority != 32767 || r.Table == 0
}

// fillTypes sets the Type of each rule. The error is netlink.ErrDumpInterrupted where the rules have changed since list was
// read.
func fillTypes(list []netlink.Rule, family int) error {
	request := nl.NewNetlinkRequest(unix.RTM_GETRULE, unix.NLM_F_DUMP)
	request.AddData(nl.NewIfInfomsg(family))
	messages, err := request.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWRULE)
	if err != nil {
		return err
	}
	if len(messages) != len(list) {
		return netlink.ErrDumpInterrupted
	}
	for i, m := range messages {
		if len(m) >= unix.SizeofRtMsg {
			list[i].Type = ruleType(m)
		}
	}
	return nil
}

// ruleType reads a message: struct fib_rule_hdr, whose action stands where struct rtmsg has the type, and attributes.
func ruleType(m []byte) uint8 {
	// FRA_SPORT_MASK and FRA_DPORT_MASK of linux/fib_rules.h: since Linux 6.15 each rule for ports has them.
	const action, sportMask, dportMask = 7, 28, 29
	for kind, value := range attributes(m[unix.SizeofRtMsg:]) {
		switch {
		case kind == nl.FRA_L3MDEV && len(value) == 1 && value[0] != 0:
			return VRF
		case kind > nl.FRA_DPORT_RANGE && kind != sportMask && kind != dportMask:
			return Beyond
		}
	}
	return m[action]
}
