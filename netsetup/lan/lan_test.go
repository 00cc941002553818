package lan

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"boxrun/netsetup/dump"
	"boxrun/netsetup/nstest"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { os.Exit(nstest.Main(m)) }

var (
	box   = netip.MustParseAddr("192.0.2.50")
	ends6 = []End{{netip.MustParseAddr("2001:db8:7::50"), netip.MustParseAddr("2001:db8:7::1")}}
)

// aLAN makes a host with eth0 on a LAN, whose neighbour has 192.0.2.2 on a device with the MAC 02:00:00:00:00:02.
func aLAN(t *testing.T) {
	nstest.Shell(t, `mount -t sysfs sysfs /sys # of this network
ip netns add neighbour
ip link add eth0 address 02:00:00:00:00:01 type veth peer name eth0 address 02:00:00:00:00:02 netns neighbour
ip addr add 2001:db8:7::1/64 dev eth0 nodad
ip addr add 192.0.2.1/24 dev eth0; ip link set eth0 up
ip -n neighbour addr add 192.0.2.2/24 dev eth0; ip -n neighbour link set eth0 up`)
}

// A neighbour who has an address is found by its MAC at once. For an address of nobody the wait is short.
func TestAsked(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	aLAN(t)
	if mac, err := Asked(netip.MustParseAddr("192.0.2.2"), "eth0"); err != nil || mac.String() != "02:00:00:00:00:02" {
		t.Errorf("for the neighbour's address: %v, %v", mac, err)
	}
	nstest.Shell(t, "ip -n neighbour addr add 2001:db8:7::2/64 dev eth0 nodad")
	if mac, err := Asked(netip.MustParseAddr("2001:db8:7::2"), "eth0"); err != nil || mac.String() != "02:00:00:00:00:02" {
		t.Errorf("for the neighbour's address of IPv6: %v, %v", mac, err)
	}
	if mac, err := Asked(ends6[0].Box, "eth0"); err != nil || mac != nil {
		t.Errorf("for a free address of IPv6: %v, %v", mac, err)
	}
	if got := nstest.Run(t, "ip", "-n", "neighbour", "neigh", "show"); got != "" {
		t.Errorf("the neighbour has learnt the asker's address: %s", got)
	}
	began := time.Now()
	mac, err := Asked(box, "eth0")
	if took := time.Since(began); err != nil || mac != nil || took > time.Minute {
		t.Errorf("for a free address: %v, %v after %v", mac, err, took)
	}
	nstest.Shell(t, "ip link set eth0 down")
	if _, err := Asked(box, "eth0"); err == nil || !strings.Contains(err.Error(), "the LAN of eth0") {
		t.Errorf("by a device that is down: %v", err)
	}
}

// A macvlan device of somebody else on this host hears the question on the host's way alone.
func TestAskedByTheWay(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	aLAN(t)
	way := Way{Parent: "eth0", MAC: "02:00:00:00:00:03"}
	ensure(t, way)
	nstest.Shell(t, `ip netns add other
ip link add link eth0 name other0 address 02:00:00:00:00:04 netns other type macvlan mode bridge
ip -n other addr add 192.0.2.50/24 dev other0; ip -n other link set other0 up`)
	if mac, err := Asked(box, "eth0", way.Device()); err != nil || mac.String() != "02:00:00:00:00:04" {
		t.Errorf("%v, %v", mac, err)
	}
}

func ensure(t *testing.T, w Way) {
	t.Helper()
	if err := w.Ensure(); err != nil {
		t.Fatal(err)
	}
}

// links shows the devices and routes that ways are made of.
func links(t *testing.T) string {
	t.Helper()
	return nstest.Shell(t, `ip -o link show type macvlan | sed 's/^[0-9]*: //; s/<.*state/state/; s/ mode.*link.ether/ mac/; s/ brd.*alias/ alias/'
(ip route show; ip -6 route show) | grep lan- | grep -v ^fe80 || true`)
}

// What Ensure does is what the commands do, both are without drift, and Sweep takes it all back.
func TestWay(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	aLAN(t)
	before := links(t)
	way := Way{Parent: "eth0", MAC: "02:00:00:00:00:03", Ends: append([]End{{box, netip.MustParseAddr("192.0.2.1")}}, ends6...)}
	for what, do := range map[string]func(){
		"Ensure":       func() { ensure(t, way) },
		"Ensure twice": func() { ensure(t, way); ensure(t, way) },
		"the commands": func() { nstest.Shell(t, strings.Join(way.Commands(), "\n")) },
	} {
		do()
		want(t, what, links(t), `lan-eth0@eth0: state UP mac 02:00:00:00:00:03 alias boxrun:lan
192.0.2.50 dev lan-eth0 scope link src 192.0.2.1 
2001:db8:7::50 dev lan-eth0 src 2001:db8:7::1 metric 1024 pref medium`)
		if drift, err := way.Drift(); err != nil || len(drift) > 0 {
			t.Errorf("%s: %q, %v", what, drift, err)
		}
		if swept, err := Sweep([]Way{way}); err != nil || len(swept) > 0 {
			t.Errorf("%s: Sweep took away what is needed: %q, %v", what, swept, err)
		}
		if swept, err := Sweep(nil); err != nil || len(swept) != 1 {
			t.Errorf("%s: Sweep: %q, %v", what, swept, err)
		}
		want(t, "after Sweep", links(t), before)
	}
	ensure(t, way)
	nstest.Shell(t, strings.Join(way.UndoCommands(true), "\n"))
	want(t, "after the commands to undo", links(t), before)
}

func want(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got\n%s\nwant\n%s", what, got, want)
	}
}

// Each thing that somebody took away or changed is named, and Ensure puts it back.
func TestWayDrifts(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	aLAN(t)
	way := Way{Parent: "eth0", MAC: "02:00:00:00:00:03", Ends: append([]End{{box, netip.MustParseAddr("192.0.2.1")}}, ends6...)}
	ensure(t, way)
	for _, test := range []struct{ by, want string }{
		{"ip link del lan-eth0", "the host's way to boxes on the LAN of eth0, lan-eth0, is missing"},
		{"ip link set lan-eth0 down", "lan-eth0 is down; the host's route to 192.0.2.50 by lan-eth0 is missing; the host's route to 2001:db8:7::50 by lan-eth0 is missing"},
		{"ip route del 192.0.2.50", "the host's route to 192.0.2.50 by lan-eth0 is missing"},
		{"ip -6 route del 2001:db8:7::50", "the host's route to 2001:db8:7::50 by lan-eth0 is missing"},
		{"sysctl -qw net.ipv6.conf.lan-eth0.accept_ra=1", "/proc/sys/net/ipv6/conf/lan-eth0/accept_ra is not 0"},
		{"sysctl -qw net.ipv4.conf.lan-eth0.arp_filter=0", "/proc/sys/net/ipv4/conf/lan-eth0/arp_filter is not 1"},
	} {
		nstest.Shell(t, test.by)
		drift, err := way.Drift()
		want(t, test.by, fmt.Sprint(strings.Join(drift, "; "), err), test.want+"<nil>")
		ensure(t, way)
		drift, err = way.Drift()
		want(t, "after Ensure", fmt.Sprint(drift, err), "[] <nil>")
	}
}

// A device of the name that is somebody else's is neither used nor taken away.
func TestWayOfSomebodyElse(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	aLAN(t)
	nstest.Shell(t, "ip link add link eth0 name lan-eth0 type macvlan mode bridge; ip link set lan-eth0 alias mine")
	before := links(t)
	err := Way{Parent: "eth0", MAC: "02:00:00:00:00:03", Ends: []End{{Box: box}}}.Ensure()
	if err == nil || !strings.Contains(err.Error(), "somebody else's") {
		t.Error(err)
	}
	if swept, err := Sweep(nil); err != nil || len(swept) > 0 {
		t.Errorf("Sweep: %q, %v", swept, err)
	}
	want(t, "afterwards", links(t), before)
}

// Of two boxes on a way one goes: its route goes, and no other.
func TestSweepOfOneBox(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	aLAN(t)
	stays := Way{Parent: "eth0", MAC: "02:00:00:00:00:03", Ends: []End{{box, netip.MustParseAddr("192.0.2.1")}}}
	goes := stays
	goes.Ends = []End{{netip.MustParseAddr("192.0.2.51"), netip.MustParseAddr("192.0.2.1")}, ends6[0]}
	ensure(t, stays)
	ensure(t, goes)
	swept, err := Sweep([]Way{stays})
	want(t, "Sweep", fmt.Sprint(swept, err), "[removed the route to 192.0.2.51 by lan-eth0, where no box is "+
		"removed the route to 2001:db8:7::50 by lan-eth0, where no box is] <nil>")
	if drift, err := stays.Drift(); err != nil || len(drift) > 0 {
		t.Errorf("the box that stays: %q, %v", drift, err)
	}
}

func TestParent(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	aLAN(t)
	nstest.Shell(t, "ip addr add 198.51.100.1/24 dev eth0; ip route add default via 192.0.2.254; "+
		"ip route add default via 2001:db8:7::fe; ip route add 2001:db8:8::/64 dev eth0; ip link add br0 type bridge; ip link add p0 type veth; ip link set p0 master br0")
	p, err := LookParent("eth0")
	if err != nil {
		t.Fatal(err)
	}
	for addr, lends := range map[string]bool{"192.0.2.50": true, "198.51.100.7": true, "203.0.113.1": false, "192.0.2.1": false, "192.0.2.254": false,
		"2001:db8:7::50": true, "2001:db8:7::1": false, "2001:db8:7::fe": false, "2001:db8:8::50": true, "2001:db8:9::50": false, "fe80::50": false} {
		if got := p.Lends(netip.MustParseAddr(addr)); got != lends {
			t.Errorf("Lends(%s) = %v", addr, got)
		}
	}
	for addr, host := range map[string]string{"192.0.2.50": "192.0.2.1", "198.51.100.7": "198.51.100.1", "203.0.113.1": "192.0.2.1",
		"2001:db8:7::50": "2001:db8:7::1", "2001:db8:9::50": "2001:db8:7::1"} {
		if got := p.Host(netip.MustParseAddr(addr)); got.String() != host {
			t.Errorf("Host(%s) = %v", addr, got)
		}
	}
	for device, say := range map[string]string{"eth0": "up ethernet", "p0": "port ethernet", "lo": "up loops"} {
		p, err := LookParent(device)
		want(t, device, fmt.Sprint(words(p), err), say+"<nil>")
	}
	if _, err := LookParent("eth7"); err == nil {
		t.Error("eth7 was found")
	}
}

// words says what kind of device a parent is.
func words(p Parent) string {
	var said []string
	for _, w := range []struct {
		is   bool
		word string
	}{{p.Up, "up"}, {p.Port, "port"}, {p.Loops, "loops"}, {p.Ethernet, "ethernet"}} {
		if w.is {
			said = append(said, w.word)
		}
	}
	return strings.Join(said, " ")
}

// neighbour starts a process in the network of the neighbour, and waits for the address there.
func neighbour(t *testing.T) (pid int) {
	t.Helper()
	pid, _ = nstest.Sleeper(t, "ip", "netns", "exec", "neighbour", "sleep", "60")
	nstest.WaitFor(t, func() bool {
		got, err := Inside(pid, "eth0")
		return err == nil && fmt.Sprint(got) == "[192.0.2.2/24]"
	})
	return pid
}

// A box on the LAN and the host reach each other by IPv6, from each address of the host, where the box knows the host: without,
// nobody answers the box. What the box knows is right again when the host has other addresses.
func TestKnown(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	aLAN(t)
	way := Way{Parent: "eth0", MAC: "02:00:00:00:00:03", Ends: ends6}
	ensure(t, way)
	nstest.Shell(t, `ip netns add box; ip addr add 2001:db8:7::2/64 dev eth0 nodad
ip link add link eth0 name lan0 address 02:00:00:00:00:04 netns box type macvlan mode bridge
ip netns exec box sysctl -qw net.ipv6.conf.lan0.accept_dad=0
ip -n box addr add 2001:db8:7::50/64 dev lan0; ip -n box link set lan0 up`)
	pid, _ := nstest.Sleeper(t, "ip", "netns", "exec", "box", "sleep", "60")
	nstest.WaitFor(t, func() bool {
		got, err := Inside(pid, "lan0")
		return err == nil && fmt.Sprint(got) == "[2001:db8:7::50/64]"
	})
	asks := func(from, to string, seconds int) string { // where nobody listens, a refusal comes from there
		return nstest.Shell(t, fmt.Sprintf("%s timeout %d bash -c 'echo > /dev/tcp/%s/9' 2>&1 | grep -o refused | sort -u", from, seconds, to))
	}
	want(t, "the host to a box that does not know", asks("", "2001:db8:7::50", 1), "")
	known := Known{Device: "lan0", MAC: way.MAC, Hosts: []netip.Addr{ends6[0].Host, netip.MustParseAddr("2001:db8:7::2")}}
	inBox := func(do func(h *netlink.Handle) ([]string, error)) string {
		lines, err := dump.LookInto(pid, func(_ netns.NsHandle, h *netlink.Handle) ([]string, error) { return do(h) })
		return fmt.Sprint(strings.Join(lines, "; "), err)
	}
	ensured := func(h *netlink.Handle) ([]string, error) { return nil, known.Ensure(h) }
	reached := func(when string) {
		t.Helper()
		want(t, when, inBox(known.Drift), "<nil>")
		for _, host := range known.Hosts {
			want(t, when+", the box to "+host.String(), asks("ip netns exec box", host.String(), 10), "refused")
		}
		want(t, when+", the host to the box", asks("", "2001:db8:7::50", 10), "refused")
	}
	want(t, "before", inBox(known.Drift), "the box does not know the MAC 02:00:00:00:00:03 of the host's 2001:db8:7::1; "+
		"the box does not know the MAC 02:00:00:00:00:03 of the host's 2001:db8:7::2<nil>")
	want(t, "Ensure", inBox(ensured), "<nil>")
	reached("after Ensure")
	nstest.Shell(t, "ip -n box neigh flush dev lan0 nud permanent; "+strings.Join(known.Commands(fmt.Sprint(pid)), "; "))
	reached("after the commands")
	known.Hosts = known.Hosts[:1]
	want(t, "of an address less", inBox(known.Drift), "the box takes 2001:db8:7::2 for the host's<nil>")
	want(t, "Ensure again", inBox(ensured), "<nil>")
	reached("of an address less")
}

// Inside finds the addresses of a device in another network, and none of a device that is not there.
func TestInside(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	aLAN(t)
	pid := neighbour(t)
	if got, err := Inside(pid, "eth7"); err != nil || got != nil {
		t.Errorf("eth7: %v, %v", got, err)
	}
}

// Of a long name of the parent, the name of the device has the end.
func TestDevice(t *testing.T) {
	for parent, device := range map[string]string{"eth0": "lan-eth0", "enp129s0f1np1": "lan-p129s0f1np1", "bond0.4094": "lan-bond0.4094"} {
		if got := (Way{Parent: parent}).Device(); got != device || len(got) > 15 {
			t.Errorf("%s: %s", parent, got)
		}
	}
}

// An address is news when it comes, when its flags change and when it goes; told again with an advertisement, it is not.
func TestNews(t *testing.T) {
	at := func(index, flags int, comes bool) netlink.AddrUpdate {
		return netlink.AddrUpdate{LinkAddress: *dump.IPNet(netip.MustParsePrefix("2001:db8:7::50/64")), LinkIndex: index, Flags: flags, NewAddr: comes}
	}
	seen := news{}
	for i, c := range []struct {
		update netlink.AddrUpdate
		is     bool
	}{
		{at(2, unix.IFA_F_TENTATIVE, true), true}, {at(2, 0, true), true}, {at(2, 0, true), false}, {at(3, 0, true), true},
		{at(2, 0, false), true}, {at(2, 0, true), true}, {at(2, 0, true), false},
	} {
		if got := seen.addr(c.update); got != c.is {
			t.Errorf("update %d: news: %v", i, got)
		}
	}
	router := func(gateway string, kind uint16) netlink.RouteUpdate {
		return netlink.RouteUpdate{Type: kind, Route: netlink.Route{LinkIndex: 2, Gw: net.ParseIP(gateway)}}
	}
	for i, c := range []struct {
		update netlink.RouteUpdate
		is     bool
	}{
		{router("fe80::1", unix.RTM_NEWROUTE), true}, {router("fe80::1", unix.RTM_NEWROUTE), false}, {router("fe80::2", unix.RTM_NEWROUTE), true},
		{router("fe80::1", unix.RTM_DELROUTE), true}, {router("fe80::1", unix.RTM_NEWROUTE), true},
	} {
		if got := seen.route(c.update); got != c.is {
			t.Errorf("update %d of a default route: news: %v", i, got)
		}
	}
}
