package main

import "testing"

func TestTimeoutFlag(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"90s", "1m30s"},
		{"90", "1m30s"},
		{"0", "0s"},
		{"-5", "must not be negative"},
		{"5x", "must be a duration, such as 90s or 2m30s"},
	} {
		var f timeoutFlag
		got := ""
		if err := f.Set(c.text); err != nil {
			got = err.Error()
		} else {
			got = f.String()
		}
		if got != c.want {
			t.Errorf("--timeout %s: got %s, want %s", c.text, got, c.want)
		}
	}
}
