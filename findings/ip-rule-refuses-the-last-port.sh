#!/bin/sh
# Linux 6.18: a routing rule can ask for each port but the last: port 65535, alone or as the end of a range, is refused.
#
# ip-rule(8) gives sport and dport as NUMBER or NUMBER-NUMBER and names no bound. fib_rule_port_range_valid (include/net/fib_rules.h)
# wants the end of a range to be below 0xffff, so "dport 65535" and the customary "all ports of users", 1024-65535, end with "Invalid
# dport range", the kernel's own words. iptables has no such bound: the same range as a match of a mark, and the mark in the rule,
# says what the rule cannot.
#
# Seen with iproute2 6.1, in a network namespace of its own. Fails if that changes.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
echo "$(uname -r), $(ip -V)"
unshare -rn sh -uc '
	for ports in 1 65534 65535 1024-65534 1024-65535; do
		for of in sport dport; do
			if said=$(ip rule add "$of" "$ports" ipproto tcp lookup 100 2>&1); then said=taken; fi
			echo "$of $ports: $said" | sed "s/: Error: /: /"
		done
	done
	iptables -t mangle -A OUTPUT -p tcp --dport 1024:65535 -j MARK --set-mark 1 && echo "iptables 1024:65535: taken"' > "$dir/seen" 2>&1
cat "$dir/seen"
cat > "$dir/expected" <<'END'
sport 1: taken
dport 1: taken
sport 65534: taken
dport 65534: taken
sport 65535: Invalid sport range.
dport 65535: Invalid dport range.
sport 1024-65534: taken
dport 1024-65534: taken
sport 1024-65535: Invalid sport range.
dport 1024-65535: Invalid dport range.
iptables 1024:65535: taken
END
cmp "$dir/expected" "$dir/seen"
