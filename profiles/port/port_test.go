package port

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, test := range []struct{ in, want, toml string }{
		// podman
		{"80", "0.0.0.0:80->80/tcp", "80:80/tcp"},
		{"53/udp", "0.0.0.0:53->53/udp", "53:53/udp"},
		{"8080:80", "0.0.0.0:8080->80/tcp", "8080:80/tcp"},
		{"8080:80/UDP", "0.0.0.0:8080->80/udp", "8080:80/udp"},
		{"127.0.0.1:8080:80", "127.0.0.1:8080->80/tcp", "127.0.0.1:8080:80/tcp"},
		{"0.0.0.0:8080:80", "0.0.0.0:8080->80/tcp", "0.0.0.0:8080:80/tcp"},
		{"localhost:8080:80", "127.0.0.1:8080->80/tcp", "127.0.0.1:8080:80/tcp"},
		{"localhost:53:53/udp", "127.0.0.1:53->53/udp", "127.0.0.1:53:53/udp"},
		{"tcp:localhost:8080:80", "127.0.0.1:8080->80/tcp", "127.0.0.1:8080:80/tcp"},
		{"9000-9100", "0.0.0.0:9000-9100->9000-9100/tcp", "9000-9100:9000-9100/tcp"},
		{"9000-9100:1-101/udp", "0.0.0.0:9000-9100->1-101/udp", "9000-9100:1-101/udp"},
		{"192.0.2.1:1-65535:1-65535", "192.0.2.1:1-65535->1-65535/tcp", "192.0.2.1:1-65535:1-65535/tcp"},
		{"80-80:443", "0.0.0.0:80->443/tcp", "80:443/tcp"},
		{"080:0443", "0.0.0.0:80->443/tcp", "80:443/tcp"},
		// systemd-nspawn
		{"tcp:8080:80", "0.0.0.0:8080->80/tcp", "8080:80/tcp"},
		{"udp:53", "0.0.0.0:53->53/udp", "53:53/udp"},
		{"tcp:8000-8001:80-81", "0.0.0.0:8000-8001->80-81/tcp", "8000-8001:80-81/tcp"},
		// Apptainer
		{"8080:80/tcp", "0.0.0.0:8080->80/tcp", "8080:80/tcp"},
		// what is printed
		{"0.0.0.0:8080->80/tcp", "0.0.0.0:8080->80/tcp", "8080:80/tcp"},
		{"0.0.0.0:9000-9100->9000-9100/udp", "0.0.0.0:9000-9100->9000-9100/udp", "9000-9100:9000-9100/udp"},
	} {
		p, err := Parse(test.in)
		if err != nil {
			t.Errorf("%s: %v", test.in, err)
			continue
		}
		if got := p.String(); got != test.want {
			t.Errorf("%s: got %s, want %s", test.in, got, test.want)
		}
		if got, _ := p.MarshalTOML(); string(got) != `"`+test.toml+`"` {
			t.Errorf("%s in TOML: got %s, want %q", test.in, got, test.toml)
		}
	}
}

// What is refused, and the words for it, is in testdata/bad/ports.toml.
func TestParseFields(t *testing.T) {
	got, err := Parse("127.0.0.1:9000-9002:80-82/udp")
	if err != nil {
		t.Fatal(err)
	}
	want := Port{HostIP: netip.MustParseAddr("127.0.0.1"), Host: 9000, Container: 80, Count: 3, Proto: "udp"}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	text, err := json.Marshal(got)
	if want := `{"host_ip":"127.0.0.1","host":9000,"container":80,"count":3,"proto":"udp"}`; err != nil || string(text) != want {
		t.Errorf("JSON: got %s, %v, want %s", text, err, want)
	}
}

func TestPortOverlap(t *testing.T) {
	for _, test := range []struct {
		a, b string
		port uint16 // 0 for none
	}{
		{"80", "80", 80},
		{"80", "80:81", 80},
		{"80", "81:80", 0},
		{"80/tcp", "80/udp", 0},
		{"80", "127.0.0.1:80:80", 80},
		{"192.0.2.1:80:80", "127.0.0.1:80:80", 0},
		{"192.0.2.1:80:80", "192.0.2.1:80:81", 80},
		{"10-20", "20-30", 20},
		{"10-20", "21-30", 0},
		{"10-20", "12-14", 12},
		{"1-65535", "65535", 65535},
		{"65535", "1", 0},
	} {
		a, errA := Parse(test.a)
		b, errB := Parse(test.b)
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		for _, pair := range [][2]Port{{a, b}, {b, a}} {
			port, ok := pair[0].Overlap(pair[1])
			if ok != (test.port != 0) || ok && port != test.port {
				t.Errorf("%v and %v: got %d, %v, want %d", pair[0], pair[1], port, ok, test.port)
			}
		}
	}
}

// FuzzPort: what is a port stays the same port when it is printed and read, in both forms.
func FuzzPort(f *testing.F) {
	for _, s := range []string{
		"80", "80:81", "127.0.0.1:8080:80/tcp", "9000-9100:1-101/udp", "tcp:8080:80", "udp:53", "[::1]:80:80", "0.0.0.0:80->81/tcp",
		"1-65535", "sctp:1", "80/", ":", "-", "1:2:3:4",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := Parse(s)
		if err != nil {
			return
		}
		if p.Count == 0 || p.Host == 0 || p.Container == 0 || int(p.Host)+int(p.Count) > 65536 || int(p.Container)+int(p.Count) > 65536 {
			t.Errorf("%q: got %+v", s, p)
		}
		printed := p // as every address, which 0.0.0.0 is in what is printed
		printed.Only4 = false
		again, err := Parse(p.String())
		if err != nil || again != printed {
			t.Errorf("%q: printed as %s, read as %v, %v", s, p, again, err)
		}
		text, _ := p.MarshalTOML()
		again, err = Parse(strings.Trim(string(text), `"`))
		if err != nil || again != p {
			t.Errorf("%q: in TOML %s, read as %v, %v", s, text, again, err)
		}
	})
}
