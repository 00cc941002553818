package rows

import "testing"

func TestShownPorts(t *testing.T) {
	ports := []string{"0.0.0.0:8080->80/tcp", "0.0.0.0:53->53/udp", "127.0.0.1:81->81/tcp", "443/tcp"}
	if got, want := shownPorts(ports), "8080->80 53->53/udp 127.0.0.1:81->81 443"; got != want {
		t.Errorf("got:  %s\nwant: %s", got, want)
	}
}
