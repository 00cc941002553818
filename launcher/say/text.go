package say

import (
	"fmt"
	"strings"
	"unicode"
)

// Listed returns the first n words joined by commas, and "and M more" if there are more words.
func Listed(words []string, n int) string {
	if len(words) > n {
		return fmt.Sprintf("%s and %d more", strings.Join(words[:n], ", "), len(words)-n)
	}
	return strings.Join(words, ", ")
}

// Printable replaces every unprintable character of a text by "?". Root inside a box chooses names freely, and a
// terminal could take a name for a command.
func Printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}
