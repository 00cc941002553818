#!/bin/sh
# github.com/safchain/ethtool v0.7.0: Change returns no error where the kernel changes nothing.
#
# ETHTOOL_SFEATURES answers by the value that ioctl(2) returns, not by errno: a bit says that the device has no such feature to change
# (ETHTOOL_F_UNSUPPORTED of linux/ethtool.h), another that the change was noted and not done (ETHTOOL_F_WISH). Change looks at errno
# alone. Whoever turns offload off with it has to read the features again to learn whether that worked: on the loopback device, where
# "loopback" is fixed on, Change(lo, loopback: false) returns nil, and the feature is on as before. ethtool(8) asks again after each
# change, says "Could not change any device features" and ends with 1.
#
# In a network namespace of its own (unshare of util-linux). Fails if that changes.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat > go.mod <<'MOD'
module example
go 1.26.0
require github.com/safchain/ethtool v0.7.0
MOD
cat > main.go <<'GO'
package main

import (
	"fmt"

	"github.com/safchain/ethtool"
)

func main() {
	eth, err := ethtool.NewEthtool()
	if err != nil {
		panic(err)
	}
	for _, wanted := range []map[string]bool{{"loopback": false}, {"no-such-feature": false}} {
		err := eth.Change("lo", wanted)
		state, readErr := eth.FeaturesWithState("lo")
		if readErr != nil {
			panic(readErr)
		}
		now := state["loopback"]
		fmt.Printf("%v: error %v; loopback is on: %v, fixed: %v\n", wanted, err, now.Active, now.NeverChanged || !now.Available)
	}
}
GO
go mod tidy > tidy.log 2>&1 || { cat tidy.log; exit 1; }
go build -o change .
unshare --map-root-user --net ./change > seen
cat seen
cat > expected <<'TXT'
map[loopback:false]: error <nil>; loopback is on: true, fixed: true
map[no-such-feature:false]: error unsupported feature "no-such-feature"; loopback is on: true, fixed: true
TXT
cmp seen expected
