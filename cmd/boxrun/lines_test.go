package main

import "testing"

func TestLinesFlag(t *testing.T) {
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
		if got := taken(linesFlag(), c.text); got != c.want {
			t.Errorf("--lines %q: got %s, want %s", c.text, got, c.want)
		}
	}
}
