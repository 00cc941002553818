package profiles

import "testing"

func TestParseMarks(t *testing.T) {
	for _, c := range []struct {
		text, want string // want "": refused
	}{
		{"0x7f000000", "0x7f000000"}, {"0x300", "0x300"}, {"1", "0x1"}, {"0xffffffff", "0xffffffff"}, {"0x80000000", "0x80000000"},
		{"", ""}, {"0", ""}, {"0x5", ""}, {"0x100000000", ""}, {"-1", ""}, {"all", ""},
	} {
		m, err := ParseMarks(c.text)
		if got := m.String(); got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%q: got %q (%v), want %q", c.text, got, err, c.want)
		}
	}
}
