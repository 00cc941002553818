#!/bin/sh
# dhcpcd 9.4.1 (Debian 12; 10.1 of Debian 13 does the same): a "denyinterfaces" that is appended to a dhcpcd.conf denies nothing
# where the file has a section of an interface, and nothing says so.
#
# dhcpcd.conf(5) has all lines after "interface NAME" hold for that interface alone, and a section ends with the next "interface",
# "ssid" or "profile" only. denyinterfaces makes sense for all interfaces alone; below a section it is read, and has no effect. To
# append a line is how most instructions for bridges and containers have it done, and a section with a static address is the usual
# reason to have a dhcpcd.conf at all.
#
# Seen: with "denyinterfaces veth*" above the section of eth0 dhcpcd leaves veth1 alone; below it, dhcpcd asks for an address there
# as well. Its own messages in debugging mode differ in that alone. In namespaces of its own. Fails if that changes.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
chmod 755 .
apt-get download -qq dhcpcd-base=9.4.1-24~deb12u5 2> /dev/null
dpkg -x dhcpcd-base_*.deb .
section='interface eth0
static ip_address=192.0.2.5/24'
deny='denyinterfaces veth*'
printf '%s\n' "$deny" "$section" > above.conf
printf '%s\n' "$section" "$deny" > below.conf
taken() { # FILE: which of eth0 and veth1 dhcpcd has to do with, and how many messages name the setting
	unshare -rnm sh -ec '
		mount -t tmpfs none /run
		mount -t tmpfs none /var/lib
		mkdir /var/lib/dhcpcd
		for name in eth0 veth1; do
			ip link add "$name" type veth peer name "peer-$name"
			ip link set "$name" up
			ip link set "peer-$name" up
		done
		timeout -s KILL 2 usr/sbin/dhcpcd -B -d -4 -f "$1" -c /bin/true > messages 2>&1 || true
		sed -n "s/^\(eth0\|veth1\): .*CARRIER$/\1/p" messages | sort | tr "\n" " "
		grep -c denyinterfaces messages || true' sh "$1"
}
want() { # GOT WANT
	[ "$1" = "$2" ] || { echo "got '$1', want '$2'"; exit 1; }
}
usr/sbin/dhcpcd --version | head -n 1
want "$(taken above.conf)" "eth0 0"
want "$(taken below.conf)" "eth0 veth1 0"
echo "as seen"
