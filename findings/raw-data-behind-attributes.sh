#!/bin/sh
# github.com/vishvananda/netlink v1.3.1, package nl: of a request that has both, Serialize writes raw data behind the attributes,
# whatever was added first.
#
# A NetlinkRequest takes its payload by AddData (structures and attributes) and by AddRawData (bytes). Whoever hands over the header of
# nfnetlink (struct nfgenmsg, four bytes) as raw data and then an attribute gets the attribute where the kernel looks for the header, and
# the header after it, without an error of the library's: the start of the attribute is then read as family, version and resource.
#
# Seen in the bytes alone, without a kernel. Fails if that changes.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat > go.mod <<'MOD'
module example
go 1.26.0
require github.com/vishvananda/netlink v1.3.1
MOD
cat > main.go <<'GO'
package main

import (
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

func main() {
	r := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP)
	r.AddRawData([]byte{unix.NFPROTO_IPV4, unix.NFNETLINK_V0, 0xab, 0xcd})
	r.AddData(nl.NewRtAttr(unix.NFTA_RULE_TABLE, nl.ZeroTerminated("nat")))
	sent := r.Serialize()
	fmt.Printf("% x\n", sent[unix.SizeofNlMsghdr:])
}
GO
go mod tidy > tidy.log 2>&1 || { cat tidy.log; exit 1; }
go run . > seen
cat seen
# Length 8, type 1, "nat", and only then the four bytes that were added first; numbers of two bytes as this machine orders them.
case $(cat seen) in
"08 00 01 00 6e 61 74 00 02 00 ab cd" | "00 08 00 01 6e 61 74 00 02 00 ab cd") ;;
*) exit 1 ;;
esac
