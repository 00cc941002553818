#!/bin/sh
# Linux 6.18 with iproute2 6.1: "ip link add NAME alias TEXT type veth" makes the link, without the alias, and ends with 0.
#
# ip-link(8) has "alias" among the words of "ip link set" alone, but iproute2 takes it for a new link too, and sends IFLA_IFALIAS
# with RTM_NEWLINK. The kernel knows the attribute (ifla_policy in net/core/rtnetlink.c), and reads it for links that exist; for
# a new link rtnl_create_link passes over it and says nothing. So libraries that send all attributes at once, as package netlink
# of Go does with LinkAttrs.Alias, make links that nobody knows again by their alias.
#
# Seen: no alias after "add", exit code 0; the alias after "set". In a network namespace of its own. Fails if that changes.
set -eu
want() { # GOT WANT
	[ "$1" = "$2" ] || { echo "got '$1', want '$2'"; exit 1; }
}
echo "$(uname -r), $(ip -V)"
got=$(unshare -rn sh -ec '
	ip link add a0 alias mine type veth peer name a1 && printf "%s:" $?
	ip -o link show a0 | sed -n "s/.*alias \([a-z]*\).*/\1/p"
	ip link set a0 alias mine
	ip -o link show a0 | sed -n "s/.*alias \([a-z]*\).*/\1/p"' | tr '\n' ';')
want "$got" "0:mine;" # with the alias after "add" it would be "0:mine;mine;"
echo "as seen"
