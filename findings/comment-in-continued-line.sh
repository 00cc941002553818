#!/bin/sh
# github.com/coreos/go-systemd/v22 v22.7.0, package unit: a comment inside a continued line becomes part of the value.
#
# systemd.syntax(7): where lines of comment follow a line that ends with a backslash, the comment is ignored, and the continued line
# goes on after it. Its own example has both kinds of comment. DeserializeOptions takes such a comment for the next piece of the value:
# after "#" or ";" without a backslash of its own the value ends there, and what systemd goes on with is read as a new option, which
# fails with "unexpected newline encountered while parsing option name". Where the comment itself ends with a backslash there is no
# error, and its words are in the value.
#
# Seen: one unit that systemd-analyze verify of systemd 252 takes without a word, an error from the library; a second, a value with a
# comment in it. Fails if that changes.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat > go.mod <<'MOD'
module example
go 1.26.0
require github.com/coreos/go-systemd/v22 v22.7.0
MOD
cat > main.go <<'GO'
package main

import (
	"fmt"
	"strings"

	"github.com/coreos/go-systemd/v22/unit"
)

func main() {
	for _, text := range []string{
		"[Service]\nExecStart=/bin/echo one \\\n# said twice\n two\nType=oneshot\n",
		"[Service]\nExecStart=/bin/echo one \\\n; said twice \\\n two\nType=oneshot\n",
	} {
		options, err := unit.DeserializeOptions(strings.NewReader(text))
		for _, o := range options {
			fmt.Printf("%s=%q ", o.Name, o.Value)
		}
		fmt.Println(err)
	}
}
GO
go mod tidy > tidy.log 2>&1 || { cat tidy.log; exit 1; }
go run . > seen
cat seen
cat > expected <<'TXT'
ExecStart="/bin/echo one \\\n# said twice" unexpected newline encountered while parsing option name
ExecStart="/bin/echo one \\\n; said twice \\\n two" Type="oneshot" <nil>
TXT
cmp seen expected
# What systemd itself makes of the first unit, where it is there to be asked.
if command -v systemd-analyze > /dev/null; then
	printf '[Service]\nExecStart=/bin/echo one \\\n# said twice\n two\nType=oneshot\n' > continued.service
	systemd-analyze verify ./continued.service
fi
