package conf

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"boxrun/launcher/box"
	"boxrun/launcher/boxtest"
	"boxrun/launcher/testkit"
	"boxrun/profiles"
)

const localLines = "# Written by boxrun.\n127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"

func TestHostsNamesTheBoxesOfTheBridge(t *testing.T) {
	web := boxtest.At(t, "web", "10.22.0.2", "portal.example.org", "sbr0")
	db := boxtest.At(t, "db", "10.22.0.3", "db", "sbr0")
	mail := boxtest.At(t, "mail", "10.22.0.4", "mx.example.org", "sbr0")
	thief := boxtest.At(t, "thief", "10.22.0.5", "db", "sbr0")
	twin := boxtest.At(t, "twin", "10.22.0.6", "mx.example.com", "sbr0")
	apart := boxtest.At(t, "apart", "10.23.0.2", "apart", "sbr1")
	starting := boxtest.At(t, "starting", "10.22.0.7", "starting", "sbr0")
	starting.Phase = box.Starting
	crashed := boxtest.At(t, "crashed", "10.22.0.8", "crashed", "sbr0")
	crashed.BootID = "another"
	alone := boxtest.At(t, "alone", "10.22.0.9", "alone", "sbr0")
	alone.Profile.Network.Mode, alone.Addr = profiles.HostMode, netip.Addr{}
	boxes := []*box.Box{alone, apart, crashed, db, mail, starting, thief, twin, web}

	testkit.WantText(t, HostsOf(web, boxes), localLines+
		"10.22.0.2 portal.example.org portal web\n"+
		"10.22.0.1 boxrun.host host.containers.internal\n"+
		"10.22.0.3 db\n"+
		"10.22.0.4 mail mx.example.org mx\n"+
		"10.22.0.5 thief\n"+
		"10.22.0.6 twin mx.example.com\n")
	testkit.WantText(t, HostsOf(apart, boxes), localLines+"10.23.0.2 apart\n10.22.0.1 boxrun.host host.containers.internal\n")
	testkit.WantText(t, HostsOf(alone, boxes), localLines+"127.0.1.1 alone\n127.0.0.1 boxrun.host host.containers.internal\n")
	testkit.WantText(t, HostsOf(starting, boxes[3:4]), localLines+"10.22.0.7 starting\n10.22.0.1 boxrun.host host.containers.internal\n10.22.0.3 db\n")
	alone.Profile.Network.Mode = profiles.NoneMode
	testkit.WantText(t, HostsOf(alone, nil), localLines+"127.0.1.1 alone\n")
}

func TestNamesAreToldAndDriftIsSeen(t *testing.T) {
	l := &box.Store{Dir: t.TempDir(), Note: func(string) {}}
	web, db := boxtest.At(t, "web", "10.22.0.2", "web", "sbr0"), boxtest.At(t, "db", "10.22.0.3", "db", "sbr0")
	for _, b := range []*box.Box{web, db} {
		if err := l.Save(b); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(l.ConfDir(b.Name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(HostsFile(l, b, nil).Path, []byte("old\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	bound, err := os.Open(HostsFile(l, web, nil).Path) // the file as bound in the box
	if err != nil {
		t.Fatal(err)
	}
	defer bound.Close()
	tell := func(want string) {
		t.Helper()
		lines, err := TellNames(l)
		if err != nil {
			t.Fatal(err)
		}
		testkit.WantText(t, strings.Join(lines, "\n"), want)
	}
	seen := func(want string) {
		t.Helper()
		text := make([]byte, 1000)
		n, _ := bound.ReadAt(text, 0)
		testkit.WantText(t, string(text[:n]), want)
	}

	tell("the hosts file of box db does not name the boxes on sbr0 as they are\n" +
		"the hosts file of box web does not name the boxes on sbr0 as they are")
	seen(localLines + "10.22.0.2 web\n10.22.0.1 boxrun.host host.containers.internal\n10.22.0.3 db\n")
	tell("")

	// A crashed box is nobody's neighbour, and its own hosts file is left alone.
	db.BootID = "another"
	if err := l.Save(db); err != nil {
		t.Fatal(err)
	}
	if line, err := NamesDrift(l, web, []*box.Box{web, db}); err != nil || line == "" {
		t.Errorf("got %q, %v, want the drift", line, err)
	}
	tell("the hosts file of box web does not name the boxes on sbr0 as they are")
	seen(localLines + "10.22.0.2 web\n10.22.0.1 boxrun.host host.containers.internal\n")

	hosts := HostsFile(l, web, []*box.Box{web}).Path
	if err := os.Chmod(hosts, 0o600); err != nil {
		t.Fatal(err)
	}
	tell("the mode of " + hosts + " is not 0644")
	if info, err := os.Stat(hosts); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("got %v, %v, want the mode as it was", info, err)
	}
}

// In the host's network a stub of the host is in reach, whatever else the profile says.
func TestResolversOfHostMode(t *testing.T) {
	const text = "nameserver 127.0.0.53\nnameserver fe80::1%eth0\noptions edns0 trust-ad\nsearch lab.example\n"
	for want, n := range map[string]profiles.Network{
		text: {},
		"# Written by boxrun.\nnameserver 127.0.0.53\nnameserver fe80::1%eth0\nsearch own.example\noptions edns0 trust-ad\n": {Search: []string{"own.example"}},
		"# Written by boxrun.\nnameserver 127.0.0.53\nnameserver fe80::1%eth0\nsearch lab.example\noptions ndots:2\n":        {DNSOptions: []string{"ndots:2"}},
	} {
		testkit.WantText(t, ofHostMode(n, text).resolvConf(), want)
	}
}

func TestResolvers(t *testing.T) {
	host, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		testkit.Cannot(t, "this machine has no resolv.conf: %v", err)
	}
	p := profiles.Default()
	p.Network.Mode = profiles.HostMode
	r, err := LookResolvers(p)
	if err != nil {
		t.Fatal(err)
	}
	testkit.WantText(t, r.resolvConf(), string(host))

	p.Network.DNS, p.Network.Search = []netip.Addr{netip.MustParseAddr("192.0.2.53")}, []string{"example.org"}
	p.Network.DNSOptions = []string{"ndots:2", "rotate"}
	for _, mode := range []string{profiles.HostMode, profiles.BridgeMode} {
		p.Network.Mode = mode
		r, err := LookResolvers(p)
		if err != nil {
			t.Fatal(err)
		}
		testkit.WantText(t, r.resolvConf(), "# Written by boxrun.\nnameserver 192.0.2.53\nsearch example.org\noptions ndots:2 rotate\n")
	}

	p = profiles.Default()
	p.Network.Mode = profiles.NoneMode
	if r, err = LookResolvers(p); err != nil {
		t.Fatal(err)
	}
	testkit.WantText(t, r.resolvConf(), "# Written by boxrun.\n# No name server is known.\n")
	testkit.WantText(t, r.resolvedConf(), "# Written by boxrun.\n[Resolve]\nDNS=\nFallbackDNS=\n")
	if r.Lack != "" {
		t.Error("a box without a network is warned of")
	}
}
