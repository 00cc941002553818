package lan

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"boxrun/netsetup/nstest"
)

func TestMain(m *testing.M) { os.Exit(nstest.Main(m)) }

var box = netip.MustParseAddr("192.0.2.50")

// aLAN makes a host with eth0 on a LAN, whose neighbour has 192.0.2.2 on a device with the MAC 02:00:00:00:00:02.
func aLAN(t *testing.T) {
	nstest.Shell(t, `mount -t sysfs sysfs /sys # of this network
ip netns add neighbour
ip link add eth0 address 02:00:00:00:00:01 type veth peer name eth0 address 02:00:00:00:00:02 netns neighbour
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
	if got := nstest.Run(t, "ip", "-n", "neighbour", "neigh", "show", "192.0.2.1"); got != "" {
		t.Errorf("the neighbour has learnt the asker's address: %s", got)
	}
	began := time.Now()
	mac, err := Asked(box, "eth0")
	if took := time.Since(began); err != nil || mac != nil || took > time.Second {
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
ip route show | grep lan- || true`)
}

// What Ensure does is what the commands do, both are without drift, and Sweep takes it all back.
func TestWay(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	aLAN(t)
	before := links(t)
	way := Way{Parent: "eth0", MAC: "02:00:00:00:00:03", Box: box, Host: netip.MustParseAddr("192.0.2.1")}
	for what, do := range map[string]func(){
		"Ensure":       func() { ensure(t, way) },
		"Ensure twice": func() { ensure(t, way); ensure(t, way) },
		"the commands": func() { nstest.Shell(t, strings.Join(way.Commands(), "\n")) },
	} {
		do()
		want(t, what, links(t), `lan-eth0@eth0: state UP mac 02:00:00:00:00:03 alias boxrun:lan
192.0.2.50 dev lan-eth0 scope link src 192.0.2.1 `)
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
	way := Way{Parent: "eth0", MAC: "02:00:00:00:00:03", Box: box, Host: netip.MustParseAddr("192.0.2.1")}
	ensure(t, way)
	for _, test := range []struct{ by, want string }{
		{"ip link del lan-eth0", "the host's way to boxes on the LAN of eth0, lan-eth0, is missing"},
		{"ip link set lan-eth0 down", "lan-eth0 is down; the host's route to 192.0.2.50 by lan-eth0 is missing"},
		{"ip route del 192.0.2.50", "the host's route to 192.0.2.50 by lan-eth0 is missing"},
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
	err := Way{Parent: "eth0", MAC: "02:00:00:00:00:03", Box: box}.Ensure()
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
	stays := Way{Parent: "eth0", MAC: "02:00:00:00:00:03", Box: box, Host: netip.MustParseAddr("192.0.2.1")}
	goes := stays
	goes.Box = netip.MustParseAddr("192.0.2.51")
	ensure(t, stays)
	ensure(t, goes)
	swept, err := Sweep([]Way{stays})
	want(t, "Sweep", fmt.Sprint(swept, err), "[removed the route to 192.0.2.51 by lan-eth0, where no box is] <nil>")
	if drift, err := stays.Drift(); err != nil || len(drift) > 0 {
		t.Errorf("the box that stays: %q, %v", drift, err)
	}
}

func TestParent(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	aLAN(t)
	nstest.Shell(t, "ip addr add 198.51.100.1/24 dev eth0; ip route add default via 192.0.2.254; ip link add br0 type bridge; ip link add p0 type veth; ip link set p0 master br0")
	p, err := LookParent("eth0")
	if err != nil {
		t.Fatal(err)
	}
	for addr, lends := range map[string]bool{"192.0.2.50": true, "198.51.100.7": true, "203.0.113.1": false, "192.0.2.1": false, "192.0.2.254": false} {
		if got := p.Lends(netip.MustParseAddr(addr)); got != lends {
			t.Errorf("Lends(%s) = %v", addr, got)
		}
	}
	for addr, host := range map[string]string{"192.0.2.50": "192.0.2.1", "198.51.100.7": "198.51.100.1", "203.0.113.1": "192.0.2.1"} {
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
