package netsetup

import (
	"fmt"
	"net/netip"
	"testing"

	"boxrun/netsetup/nstest"
)

// externalText is an External, or the error, on a line.
func externalText(e External, err error) string {
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%q %d %v", e.Name, e.MTU, e.Addrs)
}

func TestExternal(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	expect := func(when, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", when, got, want)
		}
	}
	expect("no default route", externalText(DefaultExternal()), `"" 0 []`)
	expect("nothing but lo", externalText(ExternalNamed("eth0")), `no interface "eth0": the host has none but lo`)

	for _, command := range []string{
		"ip link add eth0 mtu 9001 type veth peer name wlan0",
		"ip link set eth0 up",
		"ip link set wlan0 up",
		"ip addr add 192.0.2.1/24 dev eth0",
		"ip addr add 192.0.2.7/24 dev eth0",
		"ip addr add 169.254.3.3/16 dev eth0 scope link",
		"ip addr add 198.51.100.1/24 dev wlan0",
		"ip route add unreachable default metric 10",
		"ip route add default via 198.51.100.2 metric 600",
	} {
		nstest.Run(t, "sh", "-ec", command)
	}
	expect("one default route", externalText(DefaultExternal()), `"wlan0" 1500 [198.51.100.1]`)
	nstest.Run(t, "ip", "route", "add", "default", "via", "192.0.2.2", "metric", "100")
	expect("the better of two", externalText(DefaultExternal()), `"eth0" 9001 [192.0.2.1 192.0.2.7]`)
	nstest.Run(t, "ip", "route", "add", "default", "metric", "5", "nexthop", "via", "198.51.100.2", "nexthop", "via", "192.0.2.2")
	expect("a route of two ways", externalText(DefaultExternal()), `"wlan0" 1500 [198.51.100.1]`)

	expect("by name", externalText(ExternalNamed("wlan0")), `"wlan0" 1500 [198.51.100.1]`)
	nstest.Run(t, "ip", "link", "property", "add", "dev", "wlan0", "altname", "wlp2s0")
	expect("by another name", externalText(ExternalNamed("wlp2s0")), `"wlan0" 1500 [198.51.100.1]`)
	nstest.Run(t, "ip", "link", "add", "veth0a1b", "type", "veth", "peer", "name", "veth0a1c")
	nstest.Run(t, "ip", "link", "add", "eth1", "type", "bridge")
	nstest.Run(t, "ip", "link", "set", "eth1", "alias", "boxrun:eth1")
	expect("a typing error", externalText(ExternalNamed("eht0")), `no interface "eht0", did you mean "eth0"? there are wlan0, eth0`)
	expect("none like it", externalText(ExternalNamed("ib0.8001")), `no interface "ib0.8001": there are wlan0, eth0`)
	nstest.Run(t, "ip", "route", "add", "local", "203.0.113.0/28", "dev", "lo")
	nstest.Run(t, "ip", "route", "add", "blackhole", "203.0.113.64/28")
	for addr, want := range map[string]bool{"192.0.2.7": true, "127.0.0.2": true, "203.0.113.5": true,
		"192.0.2.8": false, "203.0.113.65": false, "192.0.3.255": false} {
		if got, err := IsLocal(netip.MustParseAddr(addr)); got != want || err != nil {
			t.Errorf("is %s the host's own: got %v, %v, want %v", addr, got, err, want)
		}
	}
	expect("all local addresses", addrsText(LocalAddrs()), "[127.0.0.1 198.51.100.1 169.254.3.3 192.0.2.1 192.0.2.7]")
}

func addrsText[T any](addrs []T, err error) string {
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(addrs)
}
