package boxtest

import (
	"net/netip"
	"os"
	"testing"

	"boxrun/launcher/box"
	"boxrun/launcher/process"
	"boxrun/launcher/testkit"
	"boxrun/profiles"
)

// In returns a box in a mode, with this very process as its init.
func In(t testing.TB, mode string, ports ...string) *box.Box {
	t.Helper()
	b := &box.Box{Name: "web", Phase: box.Running, Profile: profiles.Default()}
	b.Profile.Name, b.Profile.Hostname, b.Profile.Network.Mode = "web", "web", mode
	b.Profile.Network.Subnet6 = "" // would be another on each machine
	testkit.Ports(ports...)(&b.Profile)
	return alive(t, b)
}

// At returns a box running at an address of a bridge.
func At(t testing.TB, name, addr, hostname, bridge string) *box.Box {
	t.Helper()
	b := Of(name, func(p *profiles.Profile) { p.Hostname, p.Network.Bridge = hostname, bridge })
	b.Phase, b.Addr = box.Running, netip.MustParseAddr(addr)
	return alive(t, b)
}

// alive gives a box this very process as its init.
func alive(t testing.TB, b *box.Box) *box.Box {
	t.Helper()
	var err error
	if b.BootID, err = process.BootID(); err != nil {
		t.Fatal(err)
	}
	if b.Init, err = process.Open(os.Getpid()); err != nil {
		t.Fatal(err)
	}
	return b
}

// Of returns a box of the default profile changed by change.
func Of(name string, change func(*profiles.Profile)) *box.Box {
	return &box.Box{Name: name, Profile: testkit.Profile(name, change)}
}
