#!/bin/sh
# github.com/vishvananda/netlink 1.3.1: a routing rule read by RuleList and added again by RuleAdd may be another rule.
#
# Rule has a field Type, which RuleAdd sends and Rule.String prints; RuleList never fills it in, and passes over l3mdev. So a rule
# "unreachable", "prohibit" or "nop", and the rule for VRFs which a kernel adds with the first of them, all read as rules that look
# up table 0. RuleAdd takes such a rule back without an error, as one that looks up a table, with table 0 in the message; and the
# kernel then does not refuse it: it gives the rule a table that nobody uses (fib_empty_table in net/ipv4/fib_rules.c), another one
# each time. Of four rules that were put back in their order none says what it said, and the packets go on to the next rule.
#
# Seen with Linux 6.18 and iproute2 6.1, in a network namespace of its own. Fails if that changes.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat > go.mod <<'END'
module again
go 1.24
require github.com/vishvananda/netlink v1.3.1
END
cat > main.go <<'END'
package main

import (
	"fmt"

	"github.com/vishvananda/netlink"
)

func main() {
	rules, err := netlink.RuleList(netlink.FAMILY_V4)
	if err != nil {
		panic(err)
	}
	for _, r := range rules {
		if r.Priority < 100 || r.Priority > 199 {
			continue
		}
		fmt.Printf("%d: type %d, table %d\n", r.Priority, r.Type, r.Table)
		if err := netlink.RuleDel(&r); err != nil {
			panic(err)
		}
		if err := netlink.RuleAdd(&r); err != nil {
			panic(err)
		}
	}
}
END
GOFLAGS=-mod=mod go build -o again .
echo "$(uname -r), $(ip -V)"
unshare -rn sh -euc '
	ip rule add pref 100 l3mdev
	ip rule add pref 101 unreachable to 203.0.113.0/24
	ip rule add pref 102 prohibit to 198.51.100.0/24
	ip rule add pref 103 nop
	ip rule show | sed -n "s/^\(10[0-3]:\)\s*/\1 /p"
	./again
	ip rule show | sed -n "s/^\(10[0-3]:\)\s*/\1 /p"' > seen
cat seen
cat > expected <<'END'
100: from all lookup [l3mdev-table]
101: from all to 203.0.113.0/24 unreachable
102: from all to 198.51.100.0/24 prohibit
103: from all nop
100: type 0, table 0
101: type 0, table 0
102: type 0, table 0
103: type 0, table 0
100: from all lookup 1
101: from all to 203.0.113.0/24 lookup 2
102: from all to 198.51.100.0/24 lookup 3
103: from all lookup 4
END
cmp expected seen
