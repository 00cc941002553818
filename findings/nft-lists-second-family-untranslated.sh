#!/bin/sh
# nft 1.0.6: of rules made by iptables-nft, "nft list ruleset" shows the targets of the family that it meets first, and no others.
#
# The same rule for TCPMSS stands in "table ip mangle" and, by ip6tables-nft, in "table ip6 mangle". Listing the ruleset shows "tcp option
# maxseg size set rt mtu" for the first and nothing for the second, whose line ends behind the counter, with "XT target TCPMSS not found"
# on stderr and exit code 0; listed by itself, the second table is whole. Which family loses follows from which table was made
# first, so two hosts with the same rules print different text: a dump that is compared, or read back by nft -f, has lost what a rule does.
#
# Seen with nftables 1.0.6-2+deb12u2 and iptables 1.8.9-2 of Debian 12, as root, in a network namespace of its own. (1.1.3 of Debian 13
# prints 'xt target "TCPMSS"' for the second.) Needs apt with Debian 12. Fails if that changes.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
chmod 755 "$dir"
cd "$dir"
apt-get download -q nftables=1.0.6-2+deb12u2 libnftables1=1.0.6-2+deb12u2 iptables=1.8.9-2 libxtables12=1.8.9-2 \
	libnftnl11=1.2.4-2 libmnl0=1.0.4-3 libjansson4=2.14-2 libedit2=3.1-20221030-2 > /dev/null 2>&1
for deb in *.deb; do dpkg -x "$deb" root; done
PATH=$dir/root/usr/sbin:$PATH
LD_LIBRARY_PATH=$(echo root/usr/lib/*-linux-gnu | sed "s,^,$dir/,")
XTABLES_LIBDIR=$LD_LIBRARY_PATH/xtables
export LD_LIBRARY_PATH XTABLES_LIBDIR
cat > try <<'END'
for tool in iptables-nft ip6tables-nft; do
	$tool -t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu
done
echo "ruleset: $(nft list ruleset | grep -c 'maxseg size set rt mtu')"
for family in ip ip6; do
	echo "$family: $(nft list table $family mangle | grep -c 'maxseg size set rt mtu')"
done
END
unshare -n sh try 2> said > seen
cat seen
grep 'XT target' said
printf 'ruleset: 1\nip: 1\nip6: 1\n' | cmp - seen
