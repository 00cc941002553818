package launcher

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"boxrun/launcher/box"
	"boxrun/launcher/boxtest"
	"boxrun/launcher/fault"
	"boxrun/launcher/network"
	"boxrun/launcher/storage"
	"boxrun/launcher/testkit"
	"boxrun/netsetup"
	"boxrun/profiles"
)

func external(name string, more func(*profiles.Profile)) func(*profiles.Profile) {
	return func(p *profiles.Profile) { p.Network.External = name; more(p) }
}

func TestRefusePublished(t *testing.T) {
	tests := map[string]struct {
		ours, theirs func(*profiles.Profile)
		want         string
	}{
		"another port":                         {testkit.Ports("80"), testkit.Ports("81:80"), ""},
		"the same port":                        {testkit.Ports("81", "80"), testkit.Ports("80:8080"), "80/tcp"},
		"another protocol":                     {testkit.Ports("53/udp"), testkit.Ports("53"), ""},
		"within a range":                       {testkit.Ports("9005:80"), testkit.Ports("9000-9010"), "9005/tcp"},
		"ranges that meet":                     {testkit.Ports("9005-9020"), testkit.Ports("9000-9010"), "9005/tcp"},
		"other addresses":                      {testkit.Ports("192.0.2.1:80:80"), testkit.Ports("127.0.0.1:80:80"), ""},
		"one address of all":                   {testkit.Ports("192.0.2.1:80:80"), testkit.Ports("80"), "80/tcp"},
		"an interface that has no address now": {external("lo", testkit.Ports("80")), external("lo", testkit.Ports("80")), "80/tcp"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := network.RefusePublished(boxtest.Of("new", test.ours).Profile, []*box.Box{boxtest.Of("old", test.theirs)})
			if test.want == "" {
				if err != nil {
					t.Errorf("got %v, want no error", err)
				}
				return
			}
			if want := "host port " + test.want + ` is taken by box "old"`; err == nil || !strings.HasSuffix(err.Error(), want) {
				t.Errorf("got %v, want %s", err, want)
			}
			if want := `take another host port, or run "boxrun down old" first`; fault.HintOf(err) != want || !errors.Is(err, fault.ErrRefused) {
				t.Errorf("got hint %q, want %q", fault.HintOf(err), want)
			}
		})
	}
}

// Ports without an address of their own are on those of network.external alone.
func TestPortsMeetOnOneAddress(t *testing.T) {
	eth0, eth1 := []string{"192.0.2.1", "192.0.2.10"}, []string{"203.0.113.1"}
	on := func(addrs []string, specs ...string) []netsetup.Port {
		p := boxtest.Of("some", testkit.Ports(specs...)).Profile
		if addrs == nil {
			return network.HostPorts(p.Network.Ports)
		}
		var external []netip.Addr
		for _, addr := range addrs {
			external = append(external, netip.MustParseAddr(addr))
		}
		return netsetup.On(external, network.HostPorts(p.Network.Ports)...)
	}
	tests := map[string]struct {
		ours, theirs []netsetup.Port
		want         uint16
	}{
		"two external interfaces":            {on(eth0, "80"), on(eth1, "80"), 0},
		"one external interface":             {on(eth0, "80"), on(eth0, "80"), 80},
		"an address of another interface":    {on(eth0, "80"), on(nil, "203.0.113.1:80:80"), 0},
		"127.0.0.1":                          {on(nil, "127.0.0.1:80:80"), on(eth0, "80"), 0},
		"an address of the interface":        {on(eth0, "80"), on(nil, "192.0.2.10:79-80:79-80"), 80},
		"everywhere":                         {on(eth0, "80"), on(nil, "80"), 80},
		"an interface without addresses":     {on([]string{}, "80"), on(nil, "80"), 0},
		"an address beside one, of a third":  {on(eth0, "198.51.100.1:80:80"), on(eth1, "80"), 0},
		"an address beside one, of the same": {on(eth0, "203.0.113.1:80:80"), on(eth1, "80"), 80},
	}
	for name, test := range tests {
		if got, ok := network.Meet(test.ours, test.theirs); got != test.want || ok != (test.want != 0) {
			t.Errorf("%s: got %d, %v, want %d", name, got, ok, test.want)
		}
	}
}

func TestRefuseAnotherBridge(t *testing.T) {
	old := boxtest.Of("old", func(*profiles.Profile) {})
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
			"",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			n := testkit.Profile("new", func(*profiles.Profile) {}).Network
			test.change(&n)
			got := ""
			if err := network.Agree(n, old); err != nil {
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
	l := &Launcher{Store: &box.Store{Dir: t.TempDir(), Note: func(string) {}}}
	old := boxtest.Of("old", func(p *profiles.Profile) { p.Network.Subnet = netip.MustParsePrefix("10.23.0.0/16") })
	if err := l.Save(old); err != nil {
		t.Fatal(err)
	}
	u := &upRun{Launcher: l}
	err := u.reserve(t.Context(), boxtest.Of("new", func(*profiles.Profile) {}))
	if err == nil || !errors.Is(err, fault.ErrRefused) {
		t.Fatalf("got %v, want %v", err, fault.ErrRefused)
	}
	testkit.WantText(t, err.Error(), `network.subnet: 10.22.0.0/16, but box "old" is on bridge sbr0 with 10.23.0.0/16`)
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
	tests := map[string]error{"whole": nil, "bare": fault.ErrRefused, "none": fault.ErrRefused}
	for image, want := range tests {
		err := storage.RefuseImage(profiles.Profile{Name: "web", File: "web.toml", Image: filepath.Join(dir, image)}, profiles.Search{})
		if !errors.Is(err, want) || want != nil && fault.HintOf(err) == "" {
			t.Errorf("image %s: got %v with hint %q, want %v", image, err, fault.HintOf(err), want)
		}
	}
}
