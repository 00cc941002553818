#!/bin/sh
# github.com/coreos/go-systemd/v22 v22.7.0, package unit: one line that systemd passes over, or a long one, loses the whole file.
#
# systemd reads a line without "=" with a warning, "Missing '=', ignoring line", and takes the options after it; a line may have up
# to 1 MiB (systemd.syntax(7)). DeserializeOptions returns no option at all for either: "unexpected newline encountered while parsing
# option name", and "line too long (max 2048 bytes)". A Name= of a network file with every interface of a big host is enough.
#
# Seen: systemd-analyze verify takes both units, and the first with its warning; the library gives an error and 0 options.
# Fails if that changes.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
printf '[Service]\nleft over\nExecStart=/bin/true\n' > stray.service
long=$(printf '%0300d' 0 | sed 's/0/ a23456789/g')
printf '[Service]\nExecStart=/bin/echo%s\n' "$long" > long.service
cat > go.mod <<'MOD'
module example
go 1.26.0
require github.com/coreos/go-systemd/v22 v22.7.0
MOD
cat > main.go <<'GO'
package main

import (
	"fmt"
	"os"

	"github.com/coreos/go-systemd/v22/unit"
)

func main() {
	for _, name := range os.Args[1:] {
		file, err := os.Open(name)
		if err != nil {
			panic(err)
		}
		options, err := unit.DeserializeOptions(file)
		fmt.Println(name, len(options), err)
	}
}
GO
go mod tidy > tidy.log 2>&1 || { cat tidy.log; exit 1; }
go run . stray.service long.service > seen
cat seen
cat > expected <<'TXT'
stray.service 0 unexpected newline encountered while parsing option name
long.service 0 line too long (max 2048 bytes)
TXT
cmp seen expected
# What systemd itself makes of them, where it is there to be asked.
if command -v systemd-analyze > /dev/null; then
	systemd-analyze verify ./stray.service 2> said || { cat said; exit 1; }
	grep -q "Missing '=', ignoring line" said
	systemd-analyze verify ./long.service
fi
