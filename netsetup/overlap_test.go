package netsetup

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"boxrun/netsetup/nstest"
)

func TestOverlap(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	n := Network{Bridge: "sbr0", Subnet: mustPrefix("10.22.0.0/16")}
	nstest.Run(t, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "peer")
	nstest.Run(t, "ip", "link", "set", "eth0", "up")
	nstest.Run(t, "ip", "link", "set", "peer", "up")
	nstest.Run(t, "ip", "addr", "add", "192.0.2.1/24", "dev", "eth0")
	nstest.Run(t, "ip", "route", "add", "default", "via", "192.0.2.2")
	nstest.Run(t, "ip", "route", "add", "0.0.0.0/1", "via", "192.0.2.3") // as OpenVPN puts it before the default route
	nstest.Run(t, "ip", "route", "add", "10.23.0.0/16", "via", "192.0.2.2")
	for _, test := range []struct {
		name, command, undo, want string
	}{
		{"a usual host", "true", "true", "<nil>"},
		{"an address within", "ip addr add 10.22.5.5/24 dev peer", "ip addr del 10.22.5.5/24 dev peer",
			"subnet 10.22.0.0/16 of sbr0 overlaps 10.22.5.5/24 on peer"},
		{"an address whose network is wider", "ip addr add 10.1.2.3/8 dev eth0", "ip addr del 10.1.2.3/8 dev eth0",
			"subnet 10.22.0.0/16 of sbr0 overlaps 10.1.2.3/8 on eth0"},
		{"an address of an interface that is down", "ip link set peer down; ip addr add 10.22.5.5/24 dev peer", "ip addr del 10.22.5.5/24 dev peer; ip link set peer up",
			"subnet 10.22.0.0/16 of sbr0 overlaps 10.22.5.5/24 on peer"},
		{"a route", "ip route add 10.0.0.0/8 via 192.0.2.2", "ip route del 10.0.0.0/8",
			"subnet 10.22.0.0/16 of sbr0 overlaps the route to 10.0.0.0/8 by eth0"},
		{"a route of a VPN's own table", "ip route add 10.22.9.0/24 dev peer table 52", "ip route del 10.22.9.0/24 table 52",
			"subnet 10.22.0.0/16 of sbr0 overlaps the route to 10.22.9.0/24 by peer"},
		{"a VPN's own table that takes everything, and all networks of the host by name", // as of Tailscale's exit nodes
			"ip route add default dev peer table 52; ip route add 10.22.0.0/16 dev peer table 52", "ip route flush table 52", "<nil>"},
		{"a VPN's own table that leaves the host's networks to others", "ip route add default dev peer table 52; ip route add throw 10.22.0.0/16 table 52",
			"ip route flush table 52", "<nil>"},
		{"a table that takes everything, and has a network elsewhere", "ip route add default dev peer table 52; ip route add 10.22.9.0/24 dev eth0 table 52",
			"ip route flush table 52", "subnet 10.22.0.0/16 of sbr0 overlaps the route to 10.22.9.0/24 by eth0"},
		{"a route over two ways", "ip route add 10.22.9.0/24 nexthop via 192.0.2.2 nexthop dev peer", "ip route del 10.22.9.0/24",
			"subnet 10.22.0.0/16 of sbr0 overlaps the route to 10.22.9.0/24 by eth0"},
		{"a route to nowhere", "ip route add unreachable 10.0.0.0/8", "ip route del 10.0.0.0/8",
			"subnet 10.22.0.0/16 of sbr0 overlaps the route to 10.0.0.0/8 by unreachable"},
		{"a device that is no bridge", "ip link add sbr0 type veth peer name sbr1", "ip link del sbr0", `"sbr0" is no name for a bridge: a veth device`},
		{"another name of a bridge", "ip link add br9 type bridge; ip link property add dev br9 altname sbr0", "ip link del br9",
			`"sbr0" is no name for a bridge: it is an alternative name of br9`},
		{"our bridge", "ip link add sbr0 type bridge; ip addr add 10.22.0.1/16 dev sbr0; ip link set sbr0 up", "ip link del sbr0", "<nil>"},
		{"a bridge without an address", "ip link add sbr0 type bridge", "ip link del sbr0", "<nil>"},
		{"our bridge with another address", "ip link add sbr0 type bridge; ip addr add 10.99.0.1/16 dev sbr0", "ip link del sbr0",
			"bridge sbr0 has the address 10.99.0.1/16, not 10.22.0.1/16"},
		{"our bridge with one more address", "ip link add sbr0 type bridge; ip addr add 10.99.0.1/16 dev sbr0; ip addr add 10.22.0.1/16 dev sbr0",
			"ip link del sbr0", "<nil>"},
		{"our bridge with another mask", "ip link add sbr0 type bridge; ip addr add 10.22.0.1/24 dev sbr0", "ip link del sbr0",
			"bridge sbr0 has the address 10.22.0.1/24, not 10.22.0.1/16"},
		{"two bridges of one subnet", "ip link add sbr1 type bridge; ip addr add 10.22.0.1/16 dev sbr1", "ip link del sbr1",
			"subnet 10.22.0.0/16 of sbr0 overlaps 10.22.0.1/16 on sbr1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			nstest.Run(t, "sh", "-ec", test.command)
			if got := fmt.Sprint(Overlap(n)); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			nstest.Run(t, "sh", "-ec", test.undo)
		})
	}
	if got := nstest.Run(t, "ip", "-br", "link"); strings.Contains(got, "sbr") {
		t.Errorf("the cases did not clean up, or Overlap made something:\n%s", got)
	}
}

// A link that has gone between two looks at the host has no name, and keeps no box from starting.
func TestOverlapWithALinkThatHasGone(t *testing.T) {
	n := Network{Bridge: "sbr0", Subnet: netip.MustParsePrefix("10.22.0.0/16")}
	inside := &net.IPNet{IP: net.IPv4(10, 22, 0, 1).To4(), Mask: net.CIDRMask(16, 32)}
	addrs := []netlink.Addr{{IPNet: inside, LinkIndex: 7}}
	routes := []netlink.Route{{Dst: inside, LinkIndex: 7}}
	for name, want := range map[string]string{"": "<nil> <nil>", "sbr0": "<nil> <nil>",
		"tun0": "subnet 10.22.0.0/16 of sbr0 overlaps 10.22.0.1/16 on tun0 subnet 10.22.0.0/16 of sbr0 overlaps the route to 10.22.0.1/16 by tun0"} {
		names := map[int]string{}
		if name != "" {
			names[7] = name
		}
		if got := fmt.Sprint(overlappingAddr(n, addrs, names), " ", overlappingRoute(n, routes, names)); got != want {
			t.Errorf("%q: got %s, want %s", name, got, want)
		}
	}
}

// What OpenVPN's "redirect-gateway def1 ipv6" routes is no network that a box could be in the way of.
func TestOverlapWithAllTheWorld(t *testing.T) {
	n := Network{Bridge: "sbr0", Subnet: mustPrefix("10.22.0.0/16"), Subnet6: mustPrefix("fd00:22::/64")}
	for dst, want := range map[string]string{
		"0.0.0.0/1": "<nil>", "128.0.0.0/1": "<nil>", "::/3": "<nil>", "2000::/4": "<nil>", "3000::/4": "<nil>", "fc00::/7": "<nil>",
		"fd00::/8":   "subnet fd00:22::/64 of sbr0 overlaps the route to fd00::/8 by tun0",
		"10.0.0.0/8": "subnet 10.22.0.0/16 of sbr0 overlaps the route to 10.0.0.0/8 by tun0",
	} {
		_, network, err := net.ParseCIDR(dst)
		if err != nil {
			t.Fatal(err)
		}
		routes := []netlink.Route{{Dst: network, LinkIndex: 7}}
		if got := fmt.Sprint(overlappingRoute(n, routes, map[int]string{7: "tun0"})); got != want {
			t.Errorf("%s: got %s, want %s", dst, got, want)
		}
	}
}

// A bridge that is up sees what comes later, by the routes alone.
func TestOverlapLater(t *testing.T) { onBackend(t, "nft", testOverlapLater) }

func testOverlapLater(t *testing.T, h *testHost) {
	h.up()
	for _, c := range []struct{ come, gone, want string }{
		{"true", "true", ""},
		{"ip route add 10.22.128.0/17 dev ext0", "ip route del 10.22.128.0/17", "subnet 10.22.0.0/16 of sbr0 overlaps the route to 10.22.128.0/17 by ext0"},
		{"ip route add blackhole 10.22.9.0/24", "ip route del blackhole 10.22.9.0/24", "subnet 10.22.0.0/16 of sbr0 overlaps the route to 10.22.9.0/24 by blackhole"},
		{"ip route add 10.0.0.0/8 dev ext1 table 7", "ip route del 10.0.0.0/8 table 7", "subnet 10.22.0.0/16 of sbr0 overlaps the route to 10.0.0.0/8 by ext1"},
		{"ip addr add 10.22.5.5/32 dev ext1", "ip addr del 10.22.5.5/32 dev ext1", "subnet 10.22.0.0/16 of sbr0 overlaps 10.22.5.5/32 on ext1"},
	} {
		nstest.Shell(t, c.come)
		h.k.Reread()
		got := ""
		if err := h.k.Overlap(sbr0()); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", c.come, got, c.want)
		}
		nstest.Shell(t, c.gone)
	}
}
