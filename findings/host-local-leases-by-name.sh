#!/bin/sh
# host-local of github.com/containernetworking/plugins v1.10.0: a lease is the name of a file, whatever the file is or holds.
#
# The plugin gives an address away unless something of that name is in its directory: an empty file and a directory count as
# well as a lease. It writes "ID CR LF IFNAME", and DEL removes the file for exactly that content: a file that holds the ID alone
# stays for ever. The file last_reserved_ip.0, where the next search begins, is written without a line end; with a line end, as
# an editor leaves it, it is passed over without a word and the search begins at the first address again.
#
# Seen: 10.9.0.2 (empty file) and 10.9.0.3 (directory) are skipped, 10.9.0.4 is given; DEL frees it and leaves the file with the
# ID alone; after last_reserved_ip.0 = 10.9.0.250 without a line end comes .251, with one .4. Fails if that changes.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
GOBIN=$dir go install github.com/containernetworking/plugins/plugins/ipam/host-local@v1.10.0
run() { # VERB ID: prints the address
	printf '{"cniVersion":"1.0.0","name":"net","type":"bridge","ipam":{"type":"host-local","dataDir":"%s","ranges":[[{"subnet":"10.9.0.0/24"}]]}}' "$dir/leases" |
		CNI_COMMAND=$1 CNI_CONTAINERID=$2 CNI_NETNS=/none CNI_IFNAME=eth0 CNI_PATH=. ./host-local |
		tr -d ' \n' | sed -n 's/.*"address":"\([0-9.]*\).*/\1/p'
}
want() { # WHAT GOT WANT
	[ "$2" = "$3" ] || { echo "$1: got '$2', want '$3'"; exit 1; }
}
mkdir -p leases/net/10.9.0.3
: > leases/net/10.9.0.2
want "with an empty file and a directory in the way" "$(run ADD a)" 10.9.0.4
printf a > leases/net/10.9.0.77
run DEL a
want "after DEL" "$(ls leases/net | grep 10.9 | tr '\n' ' ')" "10.9.0.2 10.9.0.3 10.9.0.77 "
printf 10.9.0.250 > leases/net/last_reserved_ip.0
want "after last_reserved_ip.0 without a line end" "$(run ADD b)" 10.9.0.251
echo 10.9.0.250 > leases/net/last_reserved_ip.0
want "after last_reserved_ip.0 with a line end" "$(run ADD c)" 10.9.0.4
echo "as seen"
