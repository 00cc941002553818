package rows

import (
	"testing"

	"boxrun/launcher/limits"
)

func TestShownMemory(t *testing.T) {
	for bytes, want := range map[uint64]string{
		0: "-", 1 << 10: "1.0K", 1023<<10 + 511: "1023K", 1023<<10 + 512: "1.0M", 1 << 20: "1.0M", 10 << 20: "10M", 5 << 50: "5120T",
	} {
		if got := shownMemory(limits.Usage{Memory: bytes}); got != want {
			t.Errorf("%d bytes: got %q, want %q", bytes, got, want)
		}
	}
}

func TestShownPorts(t *testing.T) {
	ports := []string{"0.0.0.0:8080->80/tcp", "0.0.0.0:53->53/udp", "127.0.0.1:81->81/tcp", "443/tcp"}
	if got, want := shownPorts(ports), "8080->80 53->53/udp 127.0.0.1:81->81 443"; got != want {
		t.Errorf("got:  %s\nwant: %s", got, want)
	}
}
