package trace

import (
	"os"
	"strconv"
	"strings"
)

// symbols are functions of the kernel by an address inside.
type symbols map[uint64]string

// at returns the kernel's function at an address, "" where the kernel hides functions. The first look at an address
// takes a tenth of a second: the list of all functions is long.
func (s symbols) at(address uint64) string {
	name, known := s[address]
	if !known {
		if text, err := os.ReadFile("/proc/kallsyms"); err == nil {
			name = symbolAt(string(text), address)
		}
		s[address] = name
	}
	return name
}

// symbolAt returns the last function at or before an address in the text of /proc/kallsyms. With kptr_restrict all
// addresses in it are zero, and the name is "".
func symbolAt(text string, address uint64) string {
	best, name := uint64(0), ""
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 3 || strings.ToLower(words[1]) != "t" {
			continue
		}
		at, err := strconv.ParseUint(words[0], 16, 64)
		if err == nil && at > best && at <= address {
			best, name = at, words[2]
		}
	}
	return name
}
