#!/bin/sh
# iproute2 6.1: "ip route add default via inet6 ADDRESS" adds a route of IPv6; "0.0.0.0/0 via inet6 ADDRESS" one of IPv4.
#
# A router of IPv6 for destinations of IPv4 (RFC 5549; ip-route(8): via [ FAMILY ] ADDRESS) is how hosts without a network of IPv4 on
# the wire are connected. The word default has no family of its own, and neither has "ip route" without -4: ip takes both from the
# word after via. The command ends with 0, "ip route" shows no default route, and IPv4 leads nowhere, while the host has a second way
# for IPv6. With 0.0.0.0/0, or with "ip -4", the route is what the words say. What "ip route show" prints for that route begins with
# "default via inet6": typed as printed, the line makes the other route.
#
# Seen with Linux 6.18, in a network namespace of its own. Fails if that changes.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
echo "$(uname -r), $(ip -V)"
unshare -rn sh -euc '
	sysctl -qw net.ipv6.conf.default.disable_ipv6=0
	ip link add up0 type veth peer name far0
	ip link set up0 up
	ip link set far0 up
	ip addr add fe80::1/64 dev up0 nodad
	for command in "ip route add default" "ip route add 0.0.0.0/0" "ip -4 route add default"; do
		$command via inet6 fe80::2 dev up0
		echo "$command: IPv4 $(ip -4 -j route show default | grep -c fe80::2 || true), IPv6 $(ip -6 -j route show default | grep -c fe80::2 || true)"
		ip -4 route show default | sed "s/ *$//"
		ip -4 route del 0.0.0.0/0 2> /dev/null || true
		ip -6 route del default 2> /dev/null || true
	done' > "$dir/seen"
cat "$dir/seen"
cat > "$dir/expected" <<'END'
ip route add default: IPv4 0, IPv6 1
ip route add 0.0.0.0/0: IPv4 1, IPv6 0
default via inet6 fe80::2 dev up0
ip -4 route add default: IPv4 1, IPv6 0
default via inet6 fe80::2 dev up0
END
cmp "$dir/expected" "$dir/seen"
