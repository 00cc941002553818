package main

import (
	"fmt"
	"strings"
	"testing"
)

func TestLogPrefixes(t *testing.T) {
	names := []string{"web", "db", "web", "cache-1"}
	plain, coloured := logPrefixes(names, false), logPrefixes(names, true)
	var got strings.Builder
	for _, name := range []string{"web", "db", "cache-1"} {
		fmt.Fprintf(&got, "%sline\n%qline\n", plain[name], coloured[name])
	}
	want := `web     | line
"\x1b[36mweb     | \x1b[0m"line
db      | line
"\x1b[33mdb      | \x1b[0m"line
cache-1 | line
"\x1b[32mcache-1 | \x1b[0m"line
`
	if got.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", got.String(), want)
	}
}
