package say

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
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

// Cut returns the first n characters of a text, with "..." in place of the rest.
func Cut(text string, n int) string {
	if utf8.RuneCountInString(text) <= n {
		return text
	}
	return string([]rune(text)[:n]) + "..."
}

// EscapedJSON returns JSON with an escape for each unprintable character, as package json makes for ASCII alone.
func EscapedJSON(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r < utf8.RuneSelf && r != 0x7f, unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			first, second := utf16.EncodeRune(r)
			fmt.Fprintf(&b, "\\u%04x\\u%04x", first, second)
		default:
			fmt.Fprintf(&b, "\\u%04x", r)
		}
	}
	return b.String()
}
