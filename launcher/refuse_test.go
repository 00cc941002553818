package launcher

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"boxrun/profiles"
)

func boxOf(name string, change func(*profiles.Profile)) *Box {
	p := profiles.Default()
	p.Name, p.File = name, "/etc/boxrun/profiles/"+name+".toml"
	change(&p)
	return &Box{Name: name, Profile: p}
}

func ports(specs ...string) func(*profiles.Profile) {
	return func(p *profiles.Profile) {
		for _, spec := range specs {
			port, err := profiles.ParsePort(spec)
			if err != nil {
				panic(err)
			}
			p.Network.Ports = append(p.Network.Ports, port)
		}
	}
}

func TestRefusePublished(t *testing.T) {
	external := func(name string, next func(*profiles.Profile)) func(*profiles.Profile) {
		return func(p *profiles.Profile) { p.Network.External = name; next(p) }
	}
	tests := map[string]struct {
		ours, theirs func(*profiles.Profile)
		want         string
	}{
		"another port":                          {ports("80"), ports("81:80"), ""},
		"the same port":                         {ports("81", "80"), ports("80:8080"), "80/tcp"},
		"another protocol":                      {ports("53/udp"), ports("53"), ""},
		"within a range":                        {ports("9005:80"), ports("9000-9010"), "9005/tcp"},
		"ranges that meet":                      {ports("9005-9020"), ports("9000-9010"), "9005/tcp"},
		"other addresses":                       {ports("192.0.2.1:80:80"), ports("127.0.0.1:80:80"), ""},
		"one address of all":                    {ports("192.0.2.1:80:80"), ports("80"), "80/tcp"},
		"other external interfaces":             {external("eth0", ports("80")), external("eth1", ports("80")), ""},
		"the same external interface":           {external("eth0", ports("80")), external("eth0", ports("80")), "80/tcp"},
		"an address beside external interfaces": {external("eth0", ports("192.0.2.1:80:80")), external("eth1", ports("80")), "80/tcp"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := refusePublished(boxOf("new", test.ours).Profile, []*Box{boxOf("old", test.theirs)})
			if test.want == "" {
				if err != nil {
					t.Errorf("got %v, want no error", err)
				}
				return
			}
			if want := "host port " + test.want + ` is taken by box "old"`; err == nil || !strings.HasSuffix(err.Error(), want) {
				t.Errorf("got %v, want %s", err, want)
			}
			if want := `take another host port, or run "boxrun down old" first`; HintOf(err) != want || !errors.Is(err, ErrRefused) {
				t.Errorf("got hint %q, want %q", HintOf(err), want)
			}
		})
	}
}

func TestRefuseAnotherBridge(t *testing.T) {
	old := boxOf("old", func(*profiles.Profile) {})
	tests := map[string]struct {
		change func(*profiles.Network)
		want   string
	}{
		"as it is":       {func(*profiles.Network) {}, ""},
		"another bridge": {func(n *profiles.Network) { n.Bridge, n.MTU = "sbr1", 1400 }, ""},
		"another subnet": {
			func(n *profiles.Network) { n.Subnet = netip.MustParsePrefix("10.23.0.0/16") },
			`network.subnet: 10.23.0.0/16, but box "old" is on bridge sbr0 with 10.22.0.0/16`,
		},
		"another mtu": {
			func(n *profiles.Network) { n.MTU = 1400 },
			`network.mtu: 1400, but box "old" is on bridge sbr0 with 0`,
		},
		"another offload": {
			func(n *profiles.Network) { n.Offload = "keep" },
			`network.offload: keep, but box "old" is on bridge sbr0 with off`,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			n := profiles.Default().Network
			test.change(&n)
			got := ""
			if err := agree(n, old); err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// A box that comes at the same time may have taken the bridge since refuse looked.
func TestRefuseABridgeClaimedMeanwhile(t *testing.T) {
	l := &Launcher{Dir: t.TempDir(), Note: func(string) {}}
	old := boxOf("old", func(p *profiles.Profile) { p.Network.Subnet = netip.MustParsePrefix("10.23.0.0/16") })
	if err := l.save(old); err != nil {
		t.Fatal(err)
	}
	err := l.reserve(t.Context(), nil, boxOf("new", func(*profiles.Profile) {}))
	if err == nil || !errors.Is(err, ErrRefused) {
		t.Fatalf("got %v, want %v", err, ErrRefused)
	}
	wantText(t, err.Error(), `network.subnet: 10.22.0.0/16, but box "old" is on bridge sbr0 with 10.23.0.0/16`)
}

func TestRefuseImage(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"whole/usr/lib/systemd", "whole/usr/sbin", "bare/bin"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"whole/sbin": "usr/sbin", "whole/usr/sbin/init": "/usr/lib/systemd/systemd"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	tests := map[string]error{"whole": nil, "bare": ErrNotStarted, "none": ErrInvalid}
	for image, want := range tests {
		err := refuseImage(profiles.Profile{Name: "web", File: "web.toml", Image: filepath.Join(dir, image)}, profiles.Search{})
		if !errors.Is(err, want) || want != nil && HintOf(err) == "" {
			t.Errorf("image %s: got %v with hint %q, want %v", image, err, HintOf(err), want)
		}
	}
}
