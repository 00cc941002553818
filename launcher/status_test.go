package launcher

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"boxrun/launcher/box"
	"boxrun/launcher/boxtest"
	"boxrun/launcher/health"
	"boxrun/launcher/network"
	"boxrun/launcher/testkit"
	"boxrun/profiles"
)

func TestStatusOfEachMode(t *testing.T) {
	statusOf := func(b *box.Box) Status { return statusOf(b, health.Record{}) }
	b := boxtest.In(t, profiles.HostMode, "80", "127.0.0.1:81:81", "9000-9001/udp")
	s := statusOf(b)
	testkit.WantText(t, s.Address+" "+strings.Join(s.Ports, " "), "host 80/tcp 127.0.0.1:81/tcp 9000-9001/udp")
	testkit.WantText(t, network.Exposure(b)[0], "80/tcp in the host's own network: the host's firewall decides who reaches it")
	testkit.WantText(t, b.Where(), "in the host's network")

	b = boxtest.In(t, profiles.NoneMode)
	testkit.WantText(t, statusOf(b).Address+", "+b.Where(), "none, without a network")

	b = boxtest.In(t, profiles.BridgeMode, "80")
	b.Profile.Network.Subnet6 = profiles.AutoSubnet6
	b.Addr = netip.MustParseAddr("10.22.0.2")
	s = statusOf(b)
	testkit.WantText(t, s.Address+" "+s.Ports[0]+" "+b.Where(), "10.22.0.2 0.0.0.0:80->80/tcp at 10.22.0.2")
	testkit.WantText(t, network.Exposure(b)[0], "0.0.0.0:80->80/tcp on ALL addresses of the host, for anyone who can route to it")
	b.Profile.Network.AllowFrom = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("127.0.0.0/8")}
	testkit.WantText(t, network.Exposure(b)[0], "0.0.0.0:80->80/tcp on ALL addresses of the host, for 192.0.2.0/24, 127.0.0.0/8 only")
	b.Profile.Network.Ports[0].Only4 = true
	testkit.WantText(t, network.Exposure(b)[0], "0.0.0.0:80->80/tcp on ALL IPv4 addresses of the host, for 192.0.2.0/24, 127.0.0.0/8 only")
}

// With an unreadable image definition, Status still returns the rest of a box's status. Status ends with its context.
func TestStatusWithoutTheDefinition(t *testing.T) {
	dir := t.TempDir()
	l := &box.Store{Dir: t.TempDir(), Home: t.TempDir()}
	image := filepath.Join(dir, "web")
	if err := os.Mkdir(image, 0o755); err != nil {
		t.Fatal(err)
	}
	id, err := box.Identify(image)
	if err != nil {
		t.Fatal(err)
	}
	if err := box.WriteJSON(image+".boxrun.json", map[string]any{"image": id, "fingerprint": "one"}); err != nil {
		t.Fatal(err)
	}
	p := profiles.Default()
	p.Name, p.Image, p.Build.Definition = "web", image, filepath.Join(dir, "web.def")
	p.Network.AllowFrom = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	testkit.Fifo(t, p.Build.Definition)
	if err := l.Save(&box.Box{Name: "web", Phase: box.Starting, Profile: p}); err != nil {
		t.Fatal(err)
	}
	d, err := (&Launcher{Store: l}).Status(t.Context(), "web", Now{Profile: p})
	testkit.WantText(t, fmt.Sprint(d.Name, " ", d.Definition, d.DefinitionUnread, err), fmt.Sprintf("web reading the definition: not a file: %q<nil>", p.Build.Definition))
	testkit.WantText(t, fmt.Sprint(d.AllowFrom), "[192.0.2.0/24]")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := errors.Join(os.Remove(p.Build.Definition), os.WriteFile(p.Build.Definition, []byte("%files\n  web /\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	_, err = (&Launcher{Store: l}).Status(ctx, "web", Now{Profile: p})
	testkit.WantText(t, fmt.Sprint(err), "reading the definition: context canceled")
}
