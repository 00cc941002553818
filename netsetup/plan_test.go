package netsetup

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"boxrun/netsetup/offload"
)

func sbr0() Network {
	return Network{Bridge: "sbr0", Subnet: netip.MustParsePrefix("10.22.0.0/16"), MTU: 1500, Offload: offload.Off, Marks: 0x7f000000, Dir: "/run/boxrun"}
}

func coldfront() Box {
	return Box{
		Name: "coldfront", Bridge: "sbr0", Subnet: mustPrefix("10.22.0.0/16"), Addr: netip.MustParseAddr("10.22.0.8"), Veth: "veth8", Offload: offload.Off,
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

// TestPlanGolden keeps the listings that docs/networking.md shows.
func TestPlanGolden(t *testing.T) {
	plans := []Plan{Host(), Bridge(sbr0()), Ports(coldfront())}
	titles := []string{"serves all bridges", "the bridge sbr0", "the box coldfront"}
	var up, down strings.Builder
	for i := range plans {
		up.WriteString("# " + titles[i] + "\n" + strings.Join(plans[i].Commands(), "\n") + "\n\n")
		last := len(plans) - 1 - i
		down.WriteString("# " + titles[last] + "\n" + strings.Join(plans[last].UndoCommands(), "\n") + "\n\n")
	}
	golden(t, "testdata/plan.golden", up.String())
	golden(t, "testdata/undo.golden", down.String())
}

// TestManagersGolden keeps what a bridge adds on hosts with managers of devices, for a bridge of boxrun's and for one found.
func TestManagersGolden(t *testing.T) {
	n := sbr0()
	n.Networkd, n.NetworkManager = true, true
	var text strings.Builder
	for _, title := range []string{"made", "found"} {
		for _, u := range unmanaged(n) {
			if u.Found = title == "found"; !u.Found {
				u.Missing = []string{filepath.Dir(u.String())}
			}
			up, down := u.commands()
			text.WriteString("# " + title + "\n" + strings.Join(slices.Concat(up, []string{"# and back"}, down), "\n") + "\n\n")
		}
	}
	golden(t, "testdata/managers.golden", text.String())
}

// golden compares with a file, or writes it where UPDATE is set.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is out of date (UPDATE=1 writes it):\ngot:\n%s\nwant:\n%s", path, got, want)
	}
}

func TestPortRules(t *testing.T) {
	none, lo, ext := netip.Addr{}, netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("192.0.2.9")
	box := func(ports ...Port) Box {
		return Box{Name: "web", Bridge: "sbr0", Subnet: mustPrefix("10.22.0.0/16"), Addr: netip.MustParseAddr("10.22.0.8"), Ports: ports}
	}
	for _, c := range []struct {
		name string
		box  Box
		want string
	}{
		{"single ports side by side are one range", box(Port{none, 81, 81, 1, "tcp", false}, Port{none, 80, 80, 1, "tcp", false}), `
			-p tcp --dport 80:81 DNAT 10.22.0.8
			-p tcp --dport 80:81 DNAT ACCEPT`},
		{"but not those that go to another distance", box(Port{none, 80, 80, 1, "tcp", false}, Port{none, 81, 8081, 1, "tcp", false}), `
			-p tcp --dport 80 DNAT 10.22.0.8:80
			-p tcp --dport 81 DNAT 10.22.0.8:8081
			-p tcp --dport 80 DNAT ACCEPT
			-p tcp --dport 8081 DNAT ACCEPT`},
		{"nor those of another protocol", box(Port{none, 53, 53, 1, "tcp", false}, Port{none, 54, 54, 1, "udp", false}), `
			-p tcp --dport 53 DNAT 10.22.0.8:53
			-p udp --dport 54 DNAT 10.22.0.8:54
			-p tcp --dport 53 DNAT ACCEPT
			-p udp --dport 54 DNAT ACCEPT`},
		{"two ports of the host to one inside", box(Port{none, 80, 80, 1, "tcp", false}, Port{ext, 8080, 80, 1, "tcp", false}), `
			-d 192.0.2.9 -p tcp --dport 8080 DNAT 10.22.0.8:80
			-p tcp --dport 80 DNAT 10.22.0.8:80
			-p tcp --dport 80 DNAT ACCEPT`},
		{"the last ports of all", box(Port{none, 65534, 65534, 2, "tcp", false}), `
			-p tcp --dport 65534:65535 DNAT 10.22.0.8
			-p tcp --dport 65534:65535 DNAT ACCEPT`},
		{"external addresses", box(On([]netip.Addr{ext}, Port{none, 80, 80, 1, "tcp", false}, Port{lo, 81, 81, 1, "tcp", false})...), `
			-d 192.0.2.9 -p tcp --dport 80 DNAT 10.22.0.8:80
			-d 127.0.0.1 -p tcp --dport 81 DNAT 10.22.0.8:81
			-p tcp --dport 80 DNAT ACCEPT`},
		{"0.0.0.0 is any", box(Port{netip.IPv4Unspecified(), 80, 80, 1, "tcp", false}), `
			-p tcp --dport 80 DNAT 10.22.0.8:80
			-p tcp --dport 80 DNAT ACCEPT`},
		{"an external interface without addresses", box(On(nil, Port{none, 80, 80, 1, "tcp", false})...), ""},
		{"no ports", box(), ""},
	} {
		ranges := c.box.ranges()
		var got strings.Builder
		for _, rule := range append(c.box.dnatRules(ranges), c.box.filterRules(ranges)...) {
			if strings.Contains(rule, "--dport") {
				got.WriteString("\n\t\t\t" + strings.NewReplacer("-m comment --comment boxrun:web -j ", "",
					"--to-destination ", "", "-m conntrack --ctstate ", "").Replace(rule))
			}
		}
		if got.String() != c.want {
			t.Errorf("%s:\ngot:%s\nwant:%s", c.name, got.String(), c.want)
		}
	}
}

func TestStoredPlans(t *testing.T) {
	for _, p := range []Plan{Host(), Bridge(sbr0()), Ports(coldfront())} {
		got, want := stored(t, p), p
		if !slices.Equal(got.Commands(), want.Commands()) {
			t.Errorf("%s, stored and read:\ngot:\n%s\nwant:\n%s", p.Owner, strings.Join(got.Commands(), "\n"), strings.Join(want.Commands(), "\n"))
		}
	}
}
