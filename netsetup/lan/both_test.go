package lan

import (
	"net/netip"
	"strings"
	"testing"

	"boxrun/netsetup/dump"
	"boxrun/netsetup/nstest"
)

// inBoth makes a box with eth0 on a bridge and eth1 on a LAN.
func inBoth(t *testing.T) Both {
	nstest.Shell(t, `ip netns add others
for i in 0 1; do ip link add eth$i type veth peer name eth$i netns others; ip link set eth$i up; ip -n others link set eth$i up; done
sysctl -qw net.ipv6.conf.eth0.accept_dad=0 net.ipv6.conf.eth1.accept_dad=0
ip addr add 10.22.0.2/16 dev eth0; ip route add default via 10.22.0.1
ip addr add fd42::2/64 dev eth0 nodad; ip route add default via fd42::1 metric 1024`)
	return Both{
		Bridge: []Leg{
			{"eth0", netip.MustParsePrefix("10.22.0.2/16"), netip.MustParseAddr("10.22.0.1")},
			{"eth0", netip.MustParsePrefix("fd42::2/64"), netip.MustParseAddr("fd42::1")},
		},
		LAN:   Leg{Device: "eth1"},
		Hosts: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8:7::1")},
	}
}

// apply makes the change that the box needs, and wants the next to be none.
func apply(t *testing.T, b Both) {
	t.Helper()
	h := dump.OfHost()
	change, err := b.Change(h)
	if err == nil {
		err = change.Apply(h)
	}
	if err != nil {
		t.Fatal(err)
	}
	if change, err = b.Change(h); err != nil || len(change.Lines()) > 0 {
		t.Errorf("after Apply: %q, %v", change.Lines(), err)
	}
}

// ways wants packets to leave as the lines say: what ip route get is asked, and the device, the gateway and the source.
func ways(t *testing.T, when, lines string) {
	t.Helper()
	for line := range strings.Lines(lines) {
		asked, want, _ := strings.Cut(strings.TrimSpace(line), " -> ")
		got := nstest.Shell(t, "ip route get "+asked+" | head -1")
		for _, word := range strings.Split(want, ", ") {
			if !strings.Contains(got+" ", word+" ") {
				t.Errorf("%s, %s: got %s, want %s", when, asked, got, want)
			}
		}
	}
}

// shown shows the rules and routes of a box, without those of the kernel's own tables.
func shown(t *testing.T) string {
	t.Helper()
	return nstest.Shell(t, `for f in -4 -6; do ip $f rule | grep 2200 || true; ip $f route show table all | grep 'table 2200' || true; done`)
}

// An answer leaves by the network of the question, whatever the DHCP client of the box has made of the main table. What the
// box asks by itself goes to the LAN by the LAN, and elsewhere, and to the host, by the bridge.
func TestBoth(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	b := inBoth(t)
	before := shown(t)
	apply(t, b)
	want(t, "without an address on the LAN", shown(t), before)
	nstest.Shell(t, "ip addr add 192.0.2.50/24 dev eth1; ip route add 198.51.100.0/24 via 192.0.2.9 dev eth1")
	apply(t, b)
	const always = `192.0.2.2 from 10.22.0.2 -> dev eth0, via 10.22.0.1
198.51.100.2 from 10.22.0.2 -> dev eth0, via 10.22.0.1
203.0.113.2 from 10.22.0.2 -> dev eth0, via 10.22.0.1
10.22.0.3 from 10.22.0.2 -> dev eth0
192.0.2.2 from 192.0.2.50 -> dev eth1
192.0.2.1 from 192.0.2.50 -> dev eth1
198.51.100.2 from 192.0.2.50 -> dev eth1, via 192.0.2.9
192.0.2.2 -> dev eth1, src 192.0.2.50
192.0.2.1 -> dev eth0, src 10.22.0.2`
	ways(t, "no gateway on the LAN", always+"\n203.0.113.2 -> dev eth0, src 10.22.0.2")
	nstest.Shell(t, "ip route add default via 192.0.2.9 dev eth1 metric 1024")
	apply(t, b)
	ways(t, "a lease with a gateway", always+"\n203.0.113.2 from 192.0.2.50 -> dev eth1, via 192.0.2.9\n203.0.113.2 -> dev eth0, src 10.22.0.2")
	nstest.Shell(t, "ip route replace default via 192.0.2.9 dev eth1")
	apply(t, b)
	ways(t, "a DHCP client that took the default route", always+"\n203.0.113.2 from 192.0.2.50 -> dev eth1, via 192.0.2.9")
	b.LAN.Gateway = netip.MustParseAddr("192.0.2.8")
	apply(t, b)
	ways(t, "a gateway of the profile", "203.0.113.2 from 192.0.2.50 -> dev eth1, via 192.0.2.8")
	nstest.Shell(t, "ip addr flush dev eth1; ip addr add 192.0.3.50/24 dev eth1")
	b.LAN.Gateway = netip.MustParseAddr("192.0.3.8")
	apply(t, b)
	ways(t, "another lease", "192.0.3.2 from 10.22.0.2 -> dev eth0\n203.0.113.2 from 192.0.3.50 -> dev eth1, via 192.0.3.8\n203.0.113.2 from 10.22.0.2 -> dev eth0")
	nstest.Shell(t, "ip addr flush dev eth1")
	apply(t, b)
	want(t, "the address is gone", shown(t), before)
}

// IPv6 on the LAN, as a systemd-networkd in the box takes from advertisements, takes no answer from the bridge.
func TestBothOfIPv6(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	b := inBoth(t)
	nstest.Shell(t, "ip addr add 2001:db8:7::50/64 dev eth1 nodad; ip route add default via fe80::9 dev eth1 metric 512")
	apply(t, b)
	ways(t, "IPv6", `2001:db8:7::2 from fd42::2 -> dev eth0, via fd42::1
2001:db8:9::2 from fd42::2 -> dev eth0, via fd42::1
fd42::3 from fd42::2 -> dev eth0
2001:db8:7::2 from 2001:db8:7::50 -> dev eth1
2001:db8:7::1 from 2001:db8:7::50 -> dev eth1
2001:db8:7::1 from fd42::2 -> dev eth0, via fd42::1
2001:db8:7::1 -> dev eth0, via fd42::1
2001:db8:9::2 from 2001:db8:7::50 -> dev eth1, via fe80::9`)
	b.LAN6.Gateway = netip.MustParseAddr("2001:db8:7::8")
	apply(t, b)
	ways(t, "a gateway of the profile", "2001:db8:9::2 from 2001:db8:7::50 -> dev eth1, via 2001:db8:7::8")
}

// What Apply does is what the commands do, and each thing that somebody took away is named and put back.
func TestBothDrifts(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	b := inBoth(t)
	b.LAN.Addr, b.LAN.Gateway = netip.MustParsePrefix("192.0.2.50/24"), netip.MustParseAddr("192.0.2.9")
	nstest.Shell(t, "ip addr add 192.0.2.50/24 dev eth1")
	before := shown(t)
	nstest.Shell(t, strings.ReplaceAll(strings.Join(b.Foreseen().Commands("$PID"), "\n"), "nsenter -t $PID -n ", ""))
	typed := shown(t)
	for _, test := range []struct{ by, say string }{
		{"ip rule del pref 22002", "lacks a routing rule for its answers: pref 22002 to 192.0.2.1/32 lookup 22001 protocol kernel"},
		{"ip route flush table 22002", "lacks a route for its answers: 0.0.0.0/0 via 192.0.2.9 dev eth1 onlink table 22002 protocol kernel"},
		{"ip rule add pref 22004 from 192.0.2.51 lookup 22002 protocol kernel", "has a routing rule for answers that it gives no more: pref 22004 from 192.0.2.51/32"},
		{"ip route add 192.0.3.0/24 dev eth1 table 22002 protocol kernel", "has a route for answers that it gives no more: 192.0.3.0/24 dev eth1"},
	} {
		nstest.Shell(t, test.by)
		change, err := b.Change(dump.OfHost())
		if got := strings.Join(change.Lines(), "\n"); err != nil || !strings.Contains(got, test.say) {
			t.Errorf("%s: %s, %v", test.by, got, err)
		}
		apply(t, b)
		want(t, "after "+test.by, shown(t), typed)
	}
	nstest.Shell(t, "ip addr flush dev eth1")
	change, err := b.Change(dump.OfHost())
	if err != nil {
		t.Fatal(err)
	}
	nstest.Shell(t, strings.ReplaceAll(strings.Join(change.Commands("7"), "\n"), "nsenter -t 7 -n ", ""))
	want(t, "after the commands to take away", shown(t), before)
}

// Changes tells of an address and of a default route in another network, and of no other route.
func TestChanges(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	aLAN(t)
	pid := neighbour(t)
	told := make(chan struct{}, 100)
	err := Changes(t.Context(), pid, func() { told <- struct{}{} }, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	nstest.Shell(t, "ip -n neighbour route add 198.51.100.0/24 via 192.0.2.1")
	for _, change := range []string{"ip -n neighbour route add default via 192.0.2.1", "ip -n neighbour addr add 192.0.2.3/24 dev eth0"} {
		nstest.Shell(t, change)
		nstest.WaitFor(t, func() bool { return len(told) > 0 })
		<-told
		if len(told) > 0 {
			t.Errorf("%s was told %d times more", change, len(told))
		}
	}
}
