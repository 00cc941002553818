#!/bin/sh
# Linux 6.18 with iproute2 6.1: "ip rule add" without a priority turns its order round once a rule has a small one.
#
# ip rule(8) says that each rule should have a priority; without one the kernel takes the priority of the second rule in the list,
# less one (fib_default_rule_pref in net/core/fib_rules.c). On an empty host that is 32765, 32764 ...: what is added later is asked
# first, and tools that add two rules in a row (a catch-all first, its exception after) rely on that. A rule of somebody else with
# priority 1 changes it: the next rule gets 0, and so does every rule after it. Rules of one priority stand in the order in which
# they came, so what is added later is now asked last, and the priority is that of the rule for the table local.
#
# Seen: without a small priority, "later" stands before "earlier"; with one at 1, "earlier" stands before "later", both at 0.
# In network namespaces of its own. Fails if that changes.
set -eu
order() { # [PRIORITY]: the rules added without a priority, as "PRIORITY TABLE", in the order in which the kernel asks them
	unshare -rn sh -ec '
		[ -z "$1" ] || ip rule add from 192.0.2.9 lookup 99 pref "$1"
		ip rule add from 192.0.2.1 lookup 101 # earlier
		ip rule add from 192.0.2.2 lookup 102 # later
		ip rule show | sed -n "s/^\([0-9]*\):.*lookup \(10[12]\).*/\1 \2/p" | tr "\n" ";"' sh "$1"
}
want() { # GOT WANT
	[ "$1" = "$2" ] || { echo "got '$1', want '$2'"; exit 1; }
}
echo "$(uname -r), $(ip -V)"
want "$(order '')" "32764 102;32765 101;"
want "$(order 1)" "0 101;0 102;"
echo "as seen"
