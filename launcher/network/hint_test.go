package network

import (
	"net/netip"
	"testing"

	"boxrun/launcher/box"
	"boxrun/profiles"
	"boxrun/profiles/port"
)

func TestHintNamesTheAddressOfThePage(t *testing.T) {
	const hint = "the portal is https://:443/, its health http://:8081/healthz?port=:80, more at https://example.org:443/"
	for _, test := range []struct{ name, mode, ports, want string }{
		{"a port that is not published", profiles.BridgeMode, "80", "https://10.22.0.2/"},
		{"the same port", profiles.BridgeMode, "443", "https://127.0.0.1/"},
		{"another port", profiles.BridgeMode, "8443:443", "https://127.0.0.1:8443/"},
		{"an address", profiles.BridgeMode, "192.0.2.1:8443:443", "https://192.0.2.1:8443/"},
		{"a range", profiles.BridgeMode, "9440-9450:440-450", "https://127.0.0.1:9443/"},
		{"another protocol", profiles.BridgeMode, "8443:443/udp", "https://10.22.0.2/"},
		{"the host's network", profiles.HostMode, "443", "https://127.0.0.1/"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := &box.Box{Addr: netip.MustParseAddr("10.22.0.2")}
			published, err := port.Parse(test.ports)
			if err != nil {
				t.Fatal(err)
			}
			b.Profile.Network = profiles.Network{Mode: test.mode, Ports: []port.Port{published}}
			b.Profile.Ready.Hint = hint
			health := "http://10.22.0.2:8081"
			if test.mode == profiles.HostMode {
				health = "http://127.0.0.1:8081"
			}
			want := "the portal is " + test.want + ", its health " + health + "/healthz?port=:80, more at https://example.org:443/"
			if got := Hint(b); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}
