package network

import (
	"net/netip"
	"path/filepath"
	"testing"

	"boxrun/launcher/box"
	"boxrun/launcher/boxtest"
	"boxrun/launcher/testkit"
	"boxrun/netsetup"
	"boxrun/profiles"
)

func TestRulesForAddressesOfBefore(t *testing.T) {
	b := boxtest.Of("web", func(p *profiles.Profile) {
		testkit.Ports("8080:80")(p)
		p.Network.External = "lo"
	})
	b.Addr, b.Veth = netip.MustParseAddr("10.22.0.2"), "veth1"
	rules := netsetup.Box{Name: b.Name, Bridge: b.Profile.Network.Bridge, Addr: b.Addr, Veth: b.Veth}
	outdated := func() string {
		t.Helper()
		file, read := filepath.Join(t.TempDir(), "web.json"), new(box.Box)
		if err := box.WriteJSON(file, b); err != nil {
			t.Fatal(err)
		}
		if err := box.ReadJSON(file, read); err != nil {
			t.Fatal(err)
		}
		line, err := outdated(read)
		if err != nil {
			t.Fatal(err)
		}
		return line
	}
	rules.Ports = netsetup.On([]netip.Addr{netip.MustParseAddr("192.0.2.9")}, HostPorts(b.Profile.Network.Ports)...)
	b.Ports = netsetup.Ports(rules)
	testkit.WantText(t, outdated(), "the rules of the box are not for the addresses that lo has now")

	now, err := BoxRules(b)
	if err != nil {
		t.Fatal(err)
	}
	b.Ports = netsetup.Ports(now)
	testkit.WantText(t, outdated(), "")

	b.Profile.Network.External = "gone0" // its rules stay: better than none
	testkit.WantText(t, outdated(), "")
}
