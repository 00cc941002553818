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

