package offload

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"boxrun/netsetup/nstest"

	"github.com/safchain/ethtool"
)

func TestMain(m *testing.M) { os.Exit(nstest.Main(m)) }

// A tunnel is known by its driver, under a bridge and a VLAN as well, until the tunnel itself makes no checksums any
// more. Others need nothing.
func TestLook(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	nstest.Shell(t, `mount -t sysfs sysfs /sys
		ip link add vx0 type vxlan id 5 dstport 4789 local 127.0.0.1 remote 127.0.0.1
		ip link add vx1 type vxlan id 6 dstport 4789 local 127.0.0.1 remote 127.0.0.1
		ip link add br0 type bridge; ip link set vx1 master br0
		ip link add veth0 type veth peer name veth1; ip link set veth0 master br0`)
	eth, err := ethtool.NewEthtool()
	if err != nil {
		t.Fatal(err)
	}
	defer eth.Close()
	look := func(devices ...string) string {
		var uplinks []Uplink
		for _, d := range devices {
			uplinks = append(uplinks, Uplink{Device: d})
		}
		need, err := Look(eth, uplinks)
		if err != nil {
			t.Error(err)
		}
		return fmt.Sprintf("in: %s; out: %s", Names(need.In), Names(need.Out))
	}
	for _, test := range []struct {
		devices string
		want    string
	}{
		{"lo", "in: ; out: "},
		{"veth1 gone0", "in: ; out: "},
		{"veth1 vx0 vx0", "in: ; out: vx0 (driver vxlan)"},
		{"br0", "in: ; out: vx1 (driver vxlan)"},
	} {
		if got := look(strings.Fields(test.devices)...); got != test.want {
			t.Errorf("%s: got %q, want %q", test.devices, got, test.want)
		}
	}
	nstest.Shell(t, "ethtool -K vx0 tx off")
	if got, want := look("vx0"), "in: ; out: "; got != want {
		t.Errorf("a tunnel that makes no checksums: got %q, want %q", got, want)
	}
}

// Every driver that has been looked into has a reason and a source, and docs/networking.md tells of each.
func TestDriversAreTold(t *testing.T) {
	page, err := os.ReadFile("../../docs/networking.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range Drivers() {
		way := strings.Join(append(ifSet(d.In, "into boxes"), ifSet(d.Out, "out of boxes")...), ", ")
		if way == "" {
			way = "nothing"
		}
		row := fmt.Sprintf("| `%s` | %s | %s | %s |", d.Name, way, d.Why, d.Source)
		if d.Why == "" || d.Source == "" || !strings.Contains(string(page), row) {
			t.Errorf("docs/networking.md lacks the row\n%s", row)
		}
	}
}

func ifSet(set bool, word string) []string {
	if set {
		return []string{word}
	}
	return nil
}

// Xen's cards hand over blank checksums on the way in. A driver that nobody has looked into needs nothing.
func TestDriversByName(t *testing.T) {
	for name, want := range map[string]Driver{"vif": {In: true}, "ipip": {Out: true}, "ena": {}, "mlx5_core": {}, "": {}} {
		if got := driverNamed(name); got.In != want.In || got.Out != want.Out {
			t.Errorf("%q: got in %v, out %v, want in %v, out %v", name, got.In, got.Out, want.In, want.Out)
		}
	}
}

// A device that IPv6 alone leads to is an uplink; that the device has IPv6 neighbours makes it none.
func TestUplinkOfIPv6(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	uplinks := func() string {
		need, err := OfHost()
		if err != nil {
			t.Fatal(err)
		}
		return Names(need.Out)
	}
	nstest.Shell(t, `mount -t sysfs sysfs /sys
		ip link add vx0 type vxlan id 5 dstport 4789 local 127.0.0.1 remote 127.0.0.1
		ip link set vx0 up; ip -6 addr replace fe80::7/64 dev vx0 nodad`)
	if got := uplinks(); got != "" {
		t.Errorf("with neighbours alone: got %q", got)
	}
	nstest.Shell(t, "ip -6 route add default via fe80::9 dev vx0")
	if got, want := uplinks(), "vx0 (driver vxlan)"; got != want {
		t.Errorf("with a default route: got %q, want %q", got, want)
	}
}
