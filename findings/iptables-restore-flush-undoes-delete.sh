#!/bin/sh
# iptables-nft-restore 1.8.9: a rule deleted by its text (-D) is in the way of -X again as soon as a later line flushes its chain (-F).
#
# Chain A jumps to B. In one table's lines "-D A -j B", "-X B" is accepted, and so is "-F A", "-X B". With all three, "-D A -j B", "-X B",
# "-F A", the restore ends with 4: "CHAIN_DEL failed (Device or resource busy): chain B", and nothing of the table is done. The line that
# is named is right where it stands; the cause is the flush behind it. Who joins the removals of several owners into one
# transaction, each of them right by itself, meets it; all -D and -F before all -X is accepted.
#
# Seen with iptables 1.8.9-2 of Debian 12, as root, in a network namespace of its own, and alike with 1.8.11 of Debian 13. Needs apt with
# Debian 12. Fails if that changes.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
chmod 755 "$dir"
cd "$dir"
apt-get download -q iptables=1.8.9-2 libxtables12=1.8.9-2 libnftnl11=1.2.4-2 libmnl0=1.0.4-3 > /dev/null 2>&1
for deb in *.deb; do dpkg -x "$deb" root; done
PATH=$dir/root/usr/sbin:$PATH
LD_LIBRARY_PATH=$(echo root/usr/lib/*-linux-gnu | sed "s,^,$dir/,")
XTABLES_LIBDIR=$LD_LIBRARY_PATH/xtables
export LD_LIBRARY_PATH XTABLES_LIBDIR
cat > try <<'END'
restore() { # LINES: of table nat, with A jumping to B
	iptables-nft -t nat -F; iptables-nft -t nat -X
	printf '*nat\n:A - [0:0]\n:B - [0:0]\n-A A -j B\nCOMMIT\n' | iptables-nft-restore -n
	code=0
	printf '*nat\n%b\nCOMMIT\n' "$1" | iptables-nft-restore -n || code=$?
	printf '%s: %s\n' "$code" "$1"
}
restore '-D A -j B\n-X B'
restore '-F A\n-X B'
restore '-D A -j B\n-X B\n-F A'
restore '-D A -j B\n-F A\n-X B'
END
unshare -n sh try 2> said > seen
cat seen said
grep -q 'line 3: CHAIN_DEL failed (Device or resource busy): chain B' said
cat > want <<'END'
0: -D A -j B\n-X B
0: -F A\n-X B
4: -D A -j B\n-X B\n-F A
0: -D A -j B\n-F A\n-X B
END
cmp want seen
