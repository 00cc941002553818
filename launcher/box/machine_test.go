package box

import "testing"

// The IDs stand for all time: the journals of boxes go by them.
func TestMachineID(t *testing.T) {
	const host = "0123456789abcdef0123456789abcdef\n"
	for _, c := range []struct{ host, name, want string }{
		{host, "web", "859bbd54-21d1-4a9d-b3ae-8548434b58a8"},
		{host, "db", "9e3e5f22-488b-46b3-be9d-681e13acd420"},
		{"", "web", "e1e31575-24b9-4f1a-bd67-7690ea44511c"},
	} {
		if got := machineID(c.host, c.name); got != c.want {
			t.Errorf("box %s of host %q: got %s, want %s", c.name, c.host, got, c.want)
		}
	}
}
