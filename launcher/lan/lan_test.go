package lan

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/process"
	"boxrun/launcher/testkit"
	"boxrun/netsetup"
	"boxrun/netsetup/nstest"
	"boxrun/profiles"
)

func TestMain(m *testing.M) { os.Exit(nstest.Main(m)) }

// onLAN returns a box on the LAN of eth0 with an address of its profile; "" for a box with a DHCP client.
func onLAN(name, address string) *box.Box {
	p := profiles.Default()
	p.Name, p.File, p.Network.Mode, p.Network.Parent = name, name+".toml", profiles.LANMode, "eth0"
	b := &box.Box{Name: name, Parent: "eth0"}
	if address != "" {
		p.Network.Address = netip.MustParsePrefix(address)
		b.Addr = p.Network.Address.Addr()
	}
	b.Profile = p
	return b
}

// The files are what the plugins' documentation asks for.
func TestConflist(t *testing.T) {
	fixed := profiles.Network{Mode: profiles.LANMode, Address: netip.MustParsePrefix("192.0.2.50/24"), Gateway: netip.MustParseAddr("192.0.2.1")}
	alone, beside := profiles.Network{Address: fixed.Address}, fixed
	beside.Mode = profiles.BridgeMode
	six := profiles.Network{Mode: profiles.LANMode, Address6: netip.MustParsePrefix("2001:db8:7::50/64"), Gateway6: netip.MustParseAddr("fe80::1")}
	six4 := six // on a bridge of IPv4 alone
	six4.Mode, six4.Address, six4.Gateway = profiles.BridgeMode, fixed.Address, fixed.Gateway
	for _, test := range []struct {
		name string
		n    profiles.Network
		want string
	}{
		{"IPv6", six, `{
            "address": "2001:db8:7::50/64",
            "gateway": "fe80::1"
          }
        ],
        "routes": [
          {
            "dst": "::/0"
          }
        ]
      }`},
		{"beside a bridge without IPv6", six4, `{
            "address": "192.0.2.50/24",
            "gateway": "192.0.2.1"
          },
          {
            "address": "2001:db8:7::50/64",
            "gateway": "fe80::1"
          }
        ],
        "routes": [
          {
            "dst": "::/0"
          }
        ]
      }`},
		{"an address and a gateway", fixed, `{
            "address": "192.0.2.50/24",
            "gateway": "192.0.2.1"
          }
        ],
        "routes": [
          {
            "dst": "0.0.0.0/0"
          }
        ]
      }`},
		{"beside a bridge", beside, `{
            "address": "192.0.2.50/24",
            "gateway": "192.0.2.1"
          }
        ]
      }`},
		{"an address alone", alone, `{
            "address": "192.0.2.50/24"
          }
        ]
      }`},
	} {
		testkit.WantText(t, text("web", "eth0", "02:00:00:00:00:07", test.n), `{
  "cniVersion": "0.4.0",
  "name": "lan-web",
  "plugins": [
    {
      "type": "macvlan",
      "master": "eth0",
      "mode": "bridge",
      "mac": "02:00:00:00:00:07",
      "ipam": {
        "type": "static",
        "addresses": [
          `+test.want+`
    }
  ]
}
`)
	}
	if got := text("web", "eth0", "", profiles.Network{}); !strings.Contains(got, `"ipam": {}`) || strings.Contains(got, "mac\"") {
		t.Errorf("for a box with a DHCP client on a host without a machine-id:\n%s", got)
	}
}

// A MAC is locally administered, always the same for a box, and another for another box.
func TestMAC(t *testing.T) {
	mac := MAC("web")
	if mac == "" {
		t.Skip("this host has no machine-id")
	}
	if MAC("web") != mac || MAC("db") == mac || !strings.HasPrefix(mac, "02:") || len(mac) != 17 {
		t.Errorf("web has %q and %q, db has %q", mac, MAC("web"), MAC("db"))
	}
}

func TestRefuseTaken(t *testing.T) {
	others := []*box.Box{onLAN("db", "192.0.2.51/24"), onLAN("leased", "")}
	if err := RefuseTaken(onLAN("web", "192.0.2.50/24").Profile, others); err != nil {
		t.Error(err)
	}
	if err := RefuseTaken(onLAN("web", "").Profile, others); err != nil {
		t.Error(err)
	}
	err := RefuseTaken(onLAN("web", "192.0.2.51/24").Profile, others)
	if !errors.Is(err, fault.ErrRefused) || !strings.Contains(err.Error(), `web.toml: network.address: 192.0.2.51 is taken by box "db"`) {
		t.Error(err)
	}
}

// A host with eth0 on a LAN, whose neighbour has 192.0.2.2.
const host = `mount -t sysfs sysfs /sys # of this network
ip netns add neighbour; ip link add eth0 type veth peer name eth0 address 02:00:00:00:00:02 netns neighbour
ip addr add 192.0.2.1/24 dev eth0; ip link set eth0 up
ip -n neighbour addr add 192.0.2.2/24 dev eth0; ip -n neighbour link set eth0 up
`

// runs has a process stand for the init of the box, in a network with a macvlan device on eth0.
func runs(t *testing.T, b *box.Box) *box.Box {
	t.Helper()
	nstest.Shell(t, "ip netns add "+b.Name+"; ip link add link eth0 name eth0 netns "+b.Name+" type macvlan mode bridge; ip -n "+b.Name+" link set eth0 up")
	pid, _ := nstest.Sleeper(t, "ip", "netns", "exec", b.Name, "sleep", "60")
	nstest.WaitFor(t, func() bool {
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		return err == nil && string(comm) == "sleep\n"
	})
	init, err := process.Open(pid)
	id, idErr := process.BootID()
	if err := errors.Join(err, idErr); err != nil {
		t.Fatal(err)
	}
	b.Init, b.BootID, b.Phase = init, id, box.Running
	return b
}

// opened returns a store and the kernel of this network.
func opened(t *testing.T) (*box.Store, *netsetup.Kernel) {
	t.Helper()
	k, err := netsetup.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return &box.Store{Dir: t.TempDir()}, k
}

// A stranger's address is refused by the MAC, without a word where the box has the address already or nobody has.
func TestInUse(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	nstest.Shell(t, host)
	err := InUse(onLAN("web", "192.0.2.2/24").Profile, nil, nil)()
	if !errors.Is(err, fault.ErrRefused) || !strings.Contains(err.Error(), "192.0.2.2 is in use on the LAN of eth0, by 02:00:00:00:00:02") {
		t.Error(err)
	}
	own := runs(t, onLAN("own", "192.0.2.2/24"))
	for name, wait := range map[string]func() error{
		"a free address":           InUse(onLAN("web", "192.0.2.50/24").Profile, nil, nil),
		"the address of the box":   InUse(own.Profile, own, nil),
		"that of another box":      InUse(onLAN("web", "192.0.2.2/24").Profile, nil, []*box.Box{own}),
		"a box with a DHCP client": InUse(onLAN("web", "").Profile, nil, nil),
		"a box on a bridge":        InUse(profiles.Default(), nil, nil),
	} {
		if err := wait(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParentRefusals(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	nstest.Shell(t, host+"ip link add br0 type bridge; ip link add p0 type veth; ip link set p0 master br0")
	for parent, want := range map[string]string{
		"eth0": "", "eth7": "network.parent", "lo": "has no LAN", "p0": "is a port of a bridge", "br0": "br0 is down",
	} {
		p := onLAN("web", "192.0.2.50/24").Profile
		p.Network.Parent = parent
		_, err := Parent(p)
		if want == "" && err != nil || want != "" && (!errors.Is(err, fault.ErrRefused) || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", parent, err)
		}
	}
	p := onLAN("web", "192.0.2.1/24").Profile
	if _, err := Parent(p); err == nil || !strings.Contains(err.Error(), "192.0.2.1 is the host's own") {
		t.Error(err)
	}
}

// The host follows a box from no address to one, to another, and to none that the LAN does not lend; the way goes with the
// box, and with it what managers of devices were told.
func TestFollow(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	nstest.Shell(t, host)
	s, k := opened(t)
	b := runs(t, onLAN("leased", ""))
	takes := func(addr string) {
		nstest.Shell(t, "ip -n leased addr flush dev eth0; ip -n leased addr add "+addr+"/24 dev eth0")
	}
	drifts := func(want string) {
		t.Helper()
		drift, err := Drift(k, b)
		testkit.WantText(t, fmt.Sprint(strings.Join(drift, "; "), err), want+"<nil>")
	}
	if err := Follow(s, k, b); err != nil || b.Addr.IsValid() {
		t.Fatalf("without an address: %v, %v", b.Addr, err)
	}
	drifts("")
	takes("192.0.2.60")
	drifts("the box has got the address 192.0.2.60, to which the host does not lead yet")
	if lines, err := Repair(s, k, b); err != nil || len(lines) != 1 || b.Addr.String() != "192.0.2.60" {
		t.Errorf("Repair: %q, %v", lines, err)
	}
	drifts("")
	takes("192.0.2.61")
	drifts("the box is at 192.0.2.61, the host leads to 192.0.2.60")
	if err := Follow(s, k, b); err != nil {
		t.Error(err)
	}
	if got := nstest.Run(t, "ip", "route", "show", "dev", "lan-eth0"); !strings.HasPrefix(got, "192.0.2.61 ") || strings.Contains(got, "192.0.2.60") {
		t.Errorf("the host leads by %s", got)
	}
	for _, addr := range []string{"198.51.100.7", "192.0.2.1"} {
		takes(addr)
		if err := Follow(s, k, b); !errors.Is(err, netsetup.ErrNoAddress) || !strings.Contains(err.Error(), addr) {
			t.Errorf("at %s: %v", addr, err)
		}
	}
	nstest.Shell(t, "ip -n leased addr flush dev eth0")
	drifts("the box had the address 192.0.2.61, and has it no longer")
	if got := Traces(); fmt.Sprint(got) != "[lan-eth0]" {
		t.Errorf("Traces: %v", got)
	}
	if _, err := Sweep(k, nil); err != nil || len(Traces()) > 0 {
		t.Errorf("after Sweep: %v, %v", Traces(), err)
	}
	if left, _ := filepath.Glob("/run/*/network/*boxrun*"); len(left) > 0 {
		t.Errorf("after Sweep: %v", left)
	}
}

// The host follows a box to the addresses of IPv6 that it has learnt, and to none that the LAN does not lend; the box knows
// the host. A box that names its address has to have it.
func TestFollowIPv6(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	nstest.Shell(t, host+"ip addr add 2001:db8:7::1/64 dev eth0 nodad")
	s, k := opened(t)
	b := runs(t, onLAN("leased", "192.0.2.60/24"))
	nstest.Shell(t, "ip -n leased addr add 192.0.2.60/24 dev eth0")
	follows := func(when, takes, drift, routes, knows string) {
		t.Helper()
		nstest.Shell(t, "ip -n leased -6 addr flush dev eth0 scope global; for a in "+takes+"; do ip -n leased addr add $a/64 dev eth0 nodad; done")
		got, err := Drift(k, b)
		testkit.WantText(t, when+": "+fmt.Sprint(strings.Join(got, "; "), err), when+": "+drift+"<nil>")
		if err := Follow(s, k, b); err != nil {
			t.Errorf("%s: %v", when, err)
		}
		testkit.WantText(t, strings.TrimSpace(nstest.Shell(t, "ip -6 route show dev lan-eth0 | grep -v ^fe80 | cut -d ' ' -f 1-3")), routes)
		testkit.WantText(t, strings.TrimSpace(nstest.Shell(t, "ip -n leased -6 neigh show nud permanent | cut -d ' ' -f 1")), knows)
		if got, err := Drift(k, b); err != nil || len(got) > 0 {
			t.Errorf("%s: after Follow: %q, %v", when, got, err)
		}
	}
	const got = "the box has got the address %s, to which the host does not lead yet"
	if err := Follow(s, k, b); err != nil {
		t.Fatal(err)
	}
	follows("an address", "2001:db8:7::60", fmt.Sprintf(got, "2001:db8:7::60"), "2001:db8:7::60 src 2001:db8:7::1", "2001:db8:7::1")
	follows("another", "2001:db8:7::61", "the box had the address 2001:db8:7::60, and has it no longer; "+fmt.Sprintf(got, "2001:db8:7::61"),
		"2001:db8:7::61 src 2001:db8:7::1", "2001:db8:7::1")
	follows("the host's own", "2001:db8:7::1 2001:db8:7::61", fmt.Sprintf(got, "2001:db8:7::1"), "2001:db8:7::61 src 2001:db8:7::1", "2001:db8:7::1")
	follows("of another network", "2001:db8:9::61", "the box had the address 2001:db8:7::1, and has it no longer; "+
		"the box had the address 2001:db8:7::61, and has it no longer; "+fmt.Sprintf(got, "2001:db8:9::61"), "", "2001:db8:7::1")
	follows("none", "", "the box had the address 2001:db8:9::61, and has it no longer", "", "")
	b.Profile.Network.Address6 = netip.MustParsePrefix("2001:db8:7::60/64")
	if err := Follow(s, k, b); !errors.Is(err, netsetup.ErrNoAddress) || !strings.Contains(err.Error(), "leased lacks its address 2001:db8:7::60/64 on eth0 inside") {
		t.Errorf("without its own address: %v", err)
	}
}

// An address that comes late is waited for, and not for longer than asked.
func TestAwaitLease(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	nstest.Shell(t, host)
	s, k := opened(t)
	b := runs(t, onLAN("leased", ""))
	err := AwaitLease(t.Context(), s, k, b, 100*time.Millisecond, nil)
	if !errors.Is(err, fault.ErrNotReady) || !strings.Contains(err.Error(), "no DHCP client in the box has got an address of the LAN of eth0") {
		t.Errorf("in vain: %v", err)
	}
	done := make(chan error, 1)
	go func() { done <- AwaitLease(t.Context(), s, k, b, 20*time.Second, nil) }()
	nstest.Shell(t, "ip -n leased addr add 169.254.3.3/16 dev eth0; sleep 0.1; ip -n leased addr flush dev eth0; ip -n leased addr add 192.0.2.60/24 dev eth0")
	if err := <-done; err != nil || b.Addr.String() != "192.0.2.60" {
		t.Errorf("%v, %v", b.Addr, err)
	}
	if got := nstest.Run(t, "ip", "route", "get", "192.0.2.60"); !strings.Contains(got, "dev lan-eth0") {
		t.Errorf("the host goes by %s", got)
	}
	gone := runs(t, onLAN("dies", ""))
	go func() { done <- AwaitLease(t.Context(), s, k, gone, 20*time.Second, nil) }()
	nstest.Run(t, "kill", fmt.Sprint(gone.Init.PID))
	if err := <-done; !errors.Is(err, fault.ErrNotStarted) && !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the init has ended: %v", err)
	}
}

// The router of a lease is led to though it comes behind the address; on a LAN without a router the wait ends.
func TestFollowLate(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	nstest.Shell(t, host)
	s, k := opened(t)
	b := runsOnBoth(t)
	late := func(router time.Duration) error {
		return FollowLate(t.Context(), s, k, b, Patience{Router: router, Detection: 20 * time.Second})
	}
	router := func() string {
		return strings.TrimSpace(nstest.Run(t, "ip", "-n", "both", "route", "show", "default", "table", "22002"))
	}
	nstest.Shell(t, "ip -n both addr add 192.0.2.60/24 dev eth1")
	if err := Follow(s, k, b); err != nil {
		t.Fatal(err)
	}
	if err := late(100 * time.Millisecond); err != nil || router() != "" {
		t.Errorf("without a router: %v, %q", err, router())
	}
	done := make(chan error, 1)
	go func() { done <- late(20 * time.Second) }()
	nstest.Shell(t, "sleep 0.1; ip -n both route add default via 192.0.2.2 dev eth1 metric 1024")
	if err := <-done; err != nil || !strings.HasPrefix(router(), "default via 192.0.2.2 dev eth1") {
		t.Errorf("with a router: %v, %q", err, router())
	}
	nstest.Shell(t, "ip -n both addr add 2001:db8:7::60/64 dev eth1") // of which the kernel looks for a duplicate
	if err := late(0); err != nil || fmt.Sprint(b.LAN6) != "[2001:db8:7::60]" {
		t.Errorf("with an address of IPv6: %v, %v", b.LAN6, err)
	}
}

// Of two boxes on a LAN the first to go takes its route, the last the device and what managers were told.
func TestTypedUndo(t *testing.T) {
	web, db := onLAN("web", "192.0.2.50/24"), onLAN("db", "192.0.2.51/24")
	testkit.WantText(t, strings.Join(TypedUndo(web, []*box.Box{db}), "\n"), "ip route del 192.0.2.50/32 dev lan-eth0")
	if got := strings.Join(TypedUndo(web, nil), "\n"); !strings.HasPrefix(got, "ip link del lan-eth0") {
		t.Error(got)
	}
	if got := TypedUndo(&box.Box{Profile: profiles.Default()}, nil); got != nil {
		t.Error(got)
	}
}

// runsOnBoth returns a box that starts on a bridge and on a LAN, without an address on the LAN.
func runsOnBoth(t *testing.T) *box.Box {
	t.Helper()
	b := onLAN("both", "")
	b.Profile.Network.Mode, b.Addr = profiles.BridgeMode, netip.MustParseAddr("10.22.0.2")
	runs(t, b)
	b.Phase = box.Starting
	nstest.Shell(t, `ip netns add bridge; ip -n both link set eth0 name eth1; ip -n both link set eth1 up
ip -n both link add eth0 type veth peer name eth0 netns bridge; ip -n bridge link set eth0 up
ip -n both addr add 10.22.0.2/16 dev eth0; ip -n both link set eth0 up; ip -n both route add default via 10.22.0.1`)
	return b
}

// A box on a bridge and on a LAN answers where it was asked, forwards nothing when it starts, and does not follow its DHCP
// client to an address of the bridge.
func TestFollowOnBoth(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	nstest.Shell(t, host)
	s, k := opened(t)
	b := runsOnBoth(t)
	nstest.Shell(t, "ip netns exec both sysctl -qw net.ipv4.ip_forward=1")
	takes := func(addr string) {
		nstest.Shell(t, "ip -n both addr flush dev eth1; ip -n both addr add "+addr+" dev eth1")
	}
	forwards := func() string {
		return strings.TrimSpace(nstest.Run(t, "ip", "netns", "exec", "both", "cat", "/proc/sys/net/ipv4/ip_forward"))
	}
	takes("192.0.2.60/24")
	if err := Follow(s, k, b); err != nil || b.Second.String() != "192.0.2.60" || b.Addr.String() != "10.22.0.2" {
		t.Fatalf("the box is at %v and %v, %v", b.Addr, b.Second, err)
	}
	testkit.WantText(t, forwards(), "0")
	if got := nstest.Run(t, "ip", "-n", "both", "route", "get", "192.0.2.2", "from", "10.22.0.2"); !strings.Contains(got, "dev eth0") {
		t.Errorf("an answer from the bridge leaves by %s", got)
	}
	b.Phase = box.Running
	nstest.Shell(t, "ip netns exec both sysctl -qw net.ipv4.ip_forward=1; ip -n both rule del pref 22001")
	if lines, err := Repair(s, k, b); err != nil || len(lines) != 1 || !strings.Contains(lines[0], "lacks a routing rule") {
		t.Errorf("Repair: %q, %v", lines, err)
	}
	testkit.WantText(t, forwards(), "1") // what a box that runs has turned on stays
	nstest.Shell(t, "ip addr flush dev eth0")
	takes("10.22.0.9/24")
	if err := Follow(s, k, b); !errors.Is(err, netsetup.ErrNoAddress) || !strings.Contains(err.Error(), "10.22.0.9") {
		t.Errorf("at an address of the bridge: %v", err)
	}
}
