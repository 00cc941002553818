package netsetup

import (
	"net/netip"
	"os"
	"strings"
	"testing"
)

func sbr0() Network {
	return Network{Bridge: "sbr0", Subnet: netip.MustParsePrefix("10.22.0.0/16"), MTU: 1500, Offload: true, Dir: "/run/boxrun"}
}

func coldfront() Box {
	return Box{
		Name: "coldfront", Bridge: "sbr0", Addr: netip.MustParseAddr("10.22.0.8"), Veth: "veth8", Offload: true,
		Ports: []Port{
			{Host: 80, Container: 80, Count: 1, Proto: "tcp"},
			{Host: 8443, Container: 443, Count: 1, Proto: "tcp"},
			{HostIP: netip.MustParseAddr("127.0.0.1"), Host: 5432, Container: 5432, Count: 1, Proto: "tcp"},
			{Host: 53, Container: 53, Count: 1, Proto: "udp"},
			{Host: 9000, Container: 9000, Count: 101, Proto: "tcp"},
			{Host: 7000, Container: 6000, Count: 10, Proto: "tcp"},
		},
		AllowFrom: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
	}
}

// TestPlanGolden keeps the listing that the README shows.
func TestPlanGolden(t *testing.T) {
	var got strings.Builder
	for _, part := range []struct {
		title string
		plan  Plan
	}{{"serves all bridges", Host()}, {"the bridge sbr0", Bridge(sbr0())}, {"the box coldfront", Ports(coldfront())}} {
		got.WriteString("# " + part.title + "\n" + strings.Join(part.plan.Commands(), "\n") + "\n\n")
	}
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile("testdata/plan.golden", []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/plan.golden")
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("the plan changed (UPDATE=1 writes it):\ngot:\n%s\nwant:\n%s", got.String(), want)
	}
}

func TestSmoke(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	run(t, "ip", "link", "add", "veth8", "type", "veth", "peer", "name", "eth8")
	before := run(t, "sh", "-c", "iptables-save; ip a; ip r; ethtool -k veth8; sysctl -a 2>/dev/null | grep ^net")
	k, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	h, b, p := Host(), Bridge(sbr0()), Ports(coldfront())
	for i, plan := range []*Plan{&h, &b, &p} {
		if i == 2 {
			run(t, "ip", "link", "set", "veth8", "master", "sbr0")
		}
		if err := plan.Record(k); err != nil {
			t.Fatal(err)
		}
		d, err := plan.Drift(k)
		t.Log(strings.Join(d, "\n"), err)
		if err := plan.Apply(k); err != nil {
			t.Fatal(err)
		}
		d, err = plan.Drift(k)
		t.Log("after:", strings.Join(d, "\n"), err)
	}
	t.Log(run(t, "iptables-save"))
	t.Log(run(t, "ip", "-d", "a"))
	run(t, "ip", "link", "set", "veth8", "nomaster")
	for _, plan := range []*Plan{&p, &b, &h} {
		if err := plan.Undo(k); err != nil {
			t.Error(err)
		}
	}
	after := run(t, "sh", "-c", "iptables-save; ip a; ip r; ethtool -k veth8; sysctl -a 2>/dev/null | grep ^net")
	os.WriteFile("/tmp/ns/before", []byte(before), 0o644)
	os.WriteFile("/tmp/ns/after", []byte(after), 0o644)
}
