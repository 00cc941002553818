#!/bin/sh
# github.com/google/nftables v0.3.0: the flags of a table are read from the kernel and never sent to it.
#
# Table has a field Flags, and ListTables fills it in: a dormant table is 1, a table that belongs to a netlink socket and ends with it
# is 2. AddTable sends NFTA_TABLE_FLAGS with a literal zero, whatever the field says, and no error comes: a table that should sleep
# is awake, and a table that should vanish with its program stays.
#
# Seen with the library's own test dial, so without a kernel's table: Flags 1 and 2 are both sent as 0. Fails if that changes.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat > go.mod <<'MOD'
module example
go 1.26.0
require (
	github.com/google/nftables v0.3.0
	github.com/mdlayher/netlink v1.7.3-0.20250113171957-fbb4dce95f42
)
MOD
cat > main.go <<'GO'
package main

import (
	"encoding/binary"
	"fmt"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
)

// sent prints the attribute NFTA_TABLE_FLAGS (2) of each NFT_MSG_NEWTABLE (0).
func sent(requests []netlink.Message) ([]netlink.Message, error) {
	for _, m := range requests {
		if m.Header.Type != 10<<8 {
			continue
		}
		attributes, err := netlink.NewAttributeDecoder(m.Data[4:])
		if err != nil {
			return nil, err
		}
		attributes.ByteOrder = binary.BigEndian
		for attributes.Next() {
			if attributes.Type() == 2 {
				fmt.Print(" sent ", attributes.Uint32())
			}
		}
	}
	return nil, nil
}

func main() {
	for _, flags := range []uint32{1, 2} {
		conn, err := nftables.New(nftables.WithTestDial(sent))
		if err != nil {
			panic(err)
		}
		conn.AddTable(&nftables.Table{Name: "t", Family: nftables.TableFamilyIPv4, Flags: flags})
		fmt.Print("flags ", flags)
		fmt.Println(", error", conn.Flush())
	}
}
GO
go mod tidy > /dev/null 2>&1
got=$(go run .)
want='flags 1 sent 0, error <nil>
flags 2 sent 0, error <nil>'
[ "$got" = "$want" ] || { printf 'got:\n%s\nwant:\n%s\n' "$got" "$want"; exit 1; }
echo "as seen"
