package given

import (
	"testing"

	"github.com/spf13/pflag"
)

// taken gives what a flag makes of a text: its value, or why it refuses it.
func taken(f pflag.Value, text string) string {
	if err := f.Set(text); err != nil {
		return err.Error()
	}
	return f.String()
}

func TestTimeout(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"90s", "1m30s"},
		{"90", "1m30s"},
		{"0", "0s"},
		{"-5", "must not be negative"},
		{"5x", "must be a duration, such as 90s or 2m30s"},
	} {
		if got := taken(Timeout(), c.text); got != c.want {
			t.Errorf("--timeout %s: got %s, want %s", c.text, got, c.want)
		}
	}
}

func TestLines(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"20", "20"},
		{"0", "0"},
		{"007", "7"},
		{"2147483647", "2147483647"},
		{"2147483648", "must be at most 2147483647"},
		{"99999999999999999999", "must be at most 2147483647"},
		{"-5", "must not be negative"},
		{"-99999999999999999999", "must not be negative"},
		{"", "must be a number"},
		{"all", "-1"},
		{"1.5", "must be a number"},
		{"0x10", "must be a number"},
	} {
		if got := taken(Lines(), c.text); got != c.want {
			t.Errorf("--lines %q: got %s, want %s", c.text, got, c.want)
		}
	}
}
