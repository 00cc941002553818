package profiles

import (
	"regexp"
	"testing"
)

// Names are checked without regular expressions, which every verb would compile. The rules are those of these expressions.
func TestNamesAreAsTheirRules(t *testing.T) {
	label := `[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?`
	for _, test := range []struct {
		rule string
		has  func(string) bool
	}{
		{`^[a-z0-9]([a-z0-9-]{0,16}[a-z0-9])?$`, func(s string) bool { return CheckName(s) == nil }},
		{`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`, func(s string) bool { return made(s, letters+"_", ".-") }},
		{`^` + label + `(\.` + label + `)*$`, dotted},
		{`^[A-Za-z_][A-Za-z0-9_]*$`, func(s string) bool { return variable(s, nil) == nil }},
		{`^[a-z0-9_][a-z0-9_.-]{0,63}$`, func(s string) bool { return secretName(s, nil) == nil }},
		{`^[A-Za-z0-9:_.\\-]+(@[A-Za-z0-9:_.\\-]*)?\.[a-z]+$`, isUnit},
	} {
		for _, s := range []string{"", "a", "1", "-", "_", ".", "@", "a-", "-a", "a-b", "A", "a.b", "a..b", ".a", "a.", "a.service", "a@.service",
			"a@b.service", "@b.service", "a@b@c.service", ".service", "a.Service", "a.b9", "a:b\\x.mount", "9a", "_9", "a b", "a\n", "é", "a\x00",
			"0123456789012345678901234567890123456789012345678901234567890123", "012345678901234567890123456789012345678901234567890123456789012"} {
			if got, want := test.has(s), regexp.MustCompile(test.rule).MatchString(s); got != want {
				t.Errorf("%q: got %v, %s says %v", s, got, test.rule, want)
			}
		}
	}
}

// A gap is blanks, commas, equal signs, closing brackets and comments.
func TestGap(t *testing.T) {
	rule := regexp.MustCompile(`^(?:[\s=,\]}]|#.*)*`)
	for _, text := range []string{"", "a", " = 1", "# a\n # b\n,\t]}x", "#", "#\n", "\v", "\f\r\n=", "[", " # no end"} {
		if got, want := gap(text), len(rule.FindString(text)); got != want {
			t.Errorf("%q: got %d, want %d", text, got, want)
		}
	}
}

func TestNearest(t *testing.T) {
	words := []string{"ports", "mode", "mtu", "ip"}
	for _, test := range []struct{ word, want string }{
		{"port", "ports"}, {"Ports", "ports"}, {"poorts", "ports"}, {"prts", "ports"}, {"mtus", "mtu"},
		{"i", ""}, {"dns", ""}, {"xtu", "mtu"}, {"mxx", ""}, {"", ""}, {"frobnicate", ""},
		{"mut", "mtu"}, {"umt", ""}, {"tum", ""}, {"oprts", "ports"}, {"opstr", ""},
	} {
		if got := nearest(test.word, words); got != test.want {
			t.Errorf("%q: got %q, want %q", test.word, got, test.want)
		}
	}
}
