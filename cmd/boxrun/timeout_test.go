package main

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

func TestTimeoutFlag(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"90s", "1m30s"},
		{"90", "1m30s"},
		{"0", "0s"},
		{"-5", "must not be negative"},
		{"5x", "must be a duration, such as 90s or 2m30s"},
	} {
		if got := taken(timeoutFlag(), c.text); got != c.want {
			t.Errorf("--timeout %s: got %s, want %s", c.text, got, c.want)
		}
	}
}
