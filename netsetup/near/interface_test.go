package near

import "testing"

func TestDistance(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"eth0", "eth0", 0},
		{"", "lo", 2},
		{"eth0", "", 4},
		{"eth1", "eth0", 1},
		{"ethh0", "eth0", 1},
		{"kitten", "sitting", 3},
	} {
		if got := distance(test.a, test.b); got != test.want {
			t.Errorf("from %q to %q: got %d, want %d", test.a, test.b, got, test.want)
		}
	}
}
