package files

import (
	"strings"

	"boxrun/launcher/list"
)

// Quote returns s as a single word for bash, in quotes if need be.
func Quote(s string) string {
	if s != "" && !strings.ContainsFunc(s, unsafeInBash) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// unsafeInBash reports whether r may need quotes in bash.
func unsafeInBash(r rune) bool {
	return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./_-", r)
}

// QuoteAll returns words as a command line for bash, each word quoted if need be.
func QuoteAll(words []string) string {
	return strings.Join(list.Map(words, Quote), " ")
}
