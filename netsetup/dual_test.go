package netsetup

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"boxrun/netsetup/dump"
	"boxrun/netsetup/nstest"
	"boxrun/netsetup/six"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

func TestDualStackNFT(t *testing.T)    { onPackets(t, "nft", testDualStack) }
func TestDualStackLegacy(t *testing.T) { onPackets(t, "legacy", testDualStack) }

// dualScript gives the lab IPv6. The host has its default route from an advertisement of the client, whose kernel's own
// daemon for such is missing, so the route is written as the kernel would.
const dualScript = `
	for i in default ext0 sbr0; do sysctl -qw net.ipv6.conf.$i.disable_ipv6=0; done
	sysctl -qw net.ipv6.conf.ext0.accept_dad=0 net.ipv6.conf.ext0.accept_ra=1
	nsenter --net=/run/netns/client sysctl -qw net.ipv6.conf.eth0.accept_dad=0
	ip -6 addr add 2001:db8:7::1/64 dev ext0 nodad
	ip -n client -6 addr add 2001:db8:7::2/64 dev eth0 nodad; ip -n client -6 addr add 2001:db8:7::3/64 dev eth0 nodad preferred_lft 0
	ip -n client -6 addr add fd00:ec2::254/128 dev eth0 nodad
	ip -6 route add default via 2001:db8:7::2 dev ext0 proto ra
	ip -n client -6 route add fd42::/64 via 2001:db8:7::1`

// dualReach is who is to reach what by IPv6, as [reach] is by IPv4. Among the probes are the cases of netavark ("port
// forwarding ipv6" and "dual", tcp and udp, ranges, a host IP), those of CNI's portmap for IPv6 (a host IP, hairpin, the
// host itself) and Docker's of localhost (::1 is not translated).
var dualReach = []struct {
	probe labProbe
	want  string
}{
	{labProbe{"client", "tcp", "", "[2001:db8:7::1]:8080"}, "2001:db8:7::2 to port 80"},
	{labProbe{"client", "tcp", "", "192.0.2.1:8080"}, "192.0.2.2 to port 80"},
	{labProbe{"client", "udp", "", "[2001:db8:7::1]:5353"}, "2001:db8:7::2 to port 53"},
	{labProbe{"client", "tcp", "", "[2001:db8:7::1]:9002"}, "2001:db8:7::2 to port 9002"},
	{labProbe{"client", "udp", "", "[2001:db8:7::1]:7002"}, "2001:db8:7::2 to port 6002"},
	{labProbe{"client", "tcp", "", "[2001:db8:7::1]:8443"}, noAnswer}, // published on an IPv4 address
	{labProbe{"client", "tcp", "", "[2001:db8:7::1]:8306"}, noAnswer}, // published on 127.0.0.1
	{labProbe{"client", "tcp", "", "[2001:db8:7::1]:8460"}, "2001:db8:7::2 to port 443"},
	{labProbe{"client", "tcp", "", "192.0.2.1:8460"}, noAnswer}, // published on an IPv6 address
	{labProbe{"client", "tcp", "", "[2001:db8:7::1]:8081"}, "2001:db8:7::2 to port 80"},
	{labProbe{"client", "tcp", "2001:db8:7::3", "[2001:db8:7::1]:8081"}, noAnswer}, // not in allow_from
	{labProbe{"client", "tcp", "", "[fd42::8]:80"}, noAnswer},
	{labProbe{"", "tcp", "", "[2001:db8:7::1]:8080"}, "2001:db8:7::1 to port 80"},
	{labProbe{"", "tcp", "", "[fd42::8]:80"}, "fd42::1 to port 80"},
	{labProbe{"", "tcp", "", "[::1]:8080"}, noAnswer},
	{labProbe{"web", "tcp", "", "[2001:db8:7::2]:8000"}, "2001:db8:7::1 to port 8000"},
	{labProbe{"web", "tcp", "", "[2001:db8:7::1]:8080"}, "fd42::1 to port 80"},
	{labProbe{"db", "tcp", "", "[2001:db8:7::1]:8080"}, "fd42::1 to port 80"},
	{labProbe{"web", "tcp", "", "[fd42::9]:80"}, "fd42::8 to port 80"},
	{labProbe{"web", "tcp", "", "[2001:db8:7::1]:8081"}, noAnswer},
	{labProbe{"web", "tcp", "", "[fd00:ec2::254]:80"}, noAnswer},
	{labProbe{"db", "tcp", "", "[fd00:ec2::254]:80"}, "2001:db8:7::1 to port 80"},
}

func testDualStack(t *testing.T, l *lab) {
	nstest.Shell(t, dualScript)
	l.dual()
	l.serve("client", "tcp/[2001:db8:7::2]:8000", "tcp/[fd00:ec2::254]:80")
	l.serve("db", "tcp/[fd42::9]:80")
	l.serve("web", "tcp/[fd42::8]:80", "udp/[fd42::8]:53", "tcp/[fd42::8]:443", "tcp/[fd42::8]:9002", "udp/[fd42::8]:6002")
	for _, bridged := range []bool{false, true} {
		if !l.bridgeNetfilter(bridged) && bridged {
			continue // br_netfilter is not there, and nothing needs it
		}
		for _, policy := range []string{"ACCEPT", "DROP"} {
			nstest.Shell(t, "ip6tables -P FORWARD "+policy)
			l.policy(policy)
			for _, r := range dualReach {
				l.expect(r.probe, r.want, fmt.Sprintf("policy %s, bridge-nf-call %v", policy, bridged))
			}
		}
	}
	nstest.Shell(t, "ip6tables -P FORWARD ACCEPT")
	l.policy("ACCEPT")
	l.rogue(t)
	l.movedFlow(t)
	if got := l.driftOfAll(); got != "" {
		t.Errorf("drift:\n%s", got)
	}
	nstest.Shell(t, "ip -6 addr flush dev sbr0 scope link")
	if got, want := l.driftOfAll(), "sbr0 lacks the address fe80::858:aff:fe16:1/64"; got != want {
		t.Errorf("without its link-local address alone: got\n%s\nwant\n%s", got, want)
	}
}

var dualSubnet = mustPrefix("fd42::/64")

// dual raises the lab's plans again, with IPv6.
func (l *lab) dual() {
	l.t.Helper()
	n := sbr0()
	n.Dir, n.Subnet6 = l.t.TempDir(), dualSubnet
	web, db := dualWeb(), dbBox()
	db.AllowFrom = append(db.AllowFrom, mustPrefix("2001:db8:7::2/128"))
	l.plans = l.plans[:1]
	l.add(Host6())
	bridge := Bridge(n)
	bridge.Conflist = nil // another directory than before
	l.add(bridge)
	for _, b := range []Box{web, db} {
		b.Subnet6 = dualSubnet
		l.add(Ports(b))
		l.within(b.Name, insideOf(b).Ensure)
	}
}

// dualWeb is the box web, with a port of IPv6 alone.
func dualWeb() Box {
	web := webBox()
	https := Port{HostIP: netip.MustParseAddr("2001:db8:7::1"), Host: 8460, Container: 443, Count: 1, Proto: "tcp"}
	web.Ports, web.Subnet6 = append(web.Ports, https), dualSubnet
	return web
}

// movedFlow has a flow of udp follow the rules for its port: CNI's portmap and netavark have lost such flows.
func (l *lab) movedFlow(t *testing.T) {
	t.Helper()
	const answered = "2001:db8:7::2 to port 53, mss 0"
	flow := l.converse(labProbe{"client", "udp", "2001:db8:7::2", "[2001:db8:7::1]:5353"})
	closed := dualWeb()
	closed.Ports = nil
	last := len(l.plans) - 2 // web's
	for _, c := range []struct {
		box  Box
		when string
		want []string
	}{
		{closed, "no longer published", []string{noAnswer, portClosed}}, {dualWeb(), "published again", []string{answered}},
	} {
		p := Ports(c.box)
		if err := p.Apply(l.k); err != nil {
			t.Fatal(err)
		}
		l.plans[last] = &p
		limit := answerTime
		if c.want[0] == noAnswer {
			limit = silence
		}
		if got := flow.askWithin(t, limit); !slices.Contains(c.want, got) {
			t.Errorf("a flow to a port %s: got %q, want %q", c.when, got, c.want)
		}
	}
}

func insideOf(b Box) *six.Inside {
	return &six.Inside{Device: "eth0", Prefix: netip.PrefixFrom(b.Addr6(), dualSubnet.Bits()), Gateway: netip.MustParseAddr("fd42::1")}
}

// within runs do in a namespace.
func (l *lab) within(namespace string, do func() error) {
	l.t.Helper()
	ns, err := netns.GetFromPath("/run/netns/" + namespace)
	if err != nil {
		l.t.Fatal(err)
	}
	defer ns.Close()
	if _, err := dump.InNetwork(ns, func() (struct{}, error) { return struct{}{}, do() }); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) driftOfAll() string {
	l.t.Helper()
	var lines []string
	for _, p := range l.plans {
		drift, err := p.Drift(l.k)
		if err != nil {
			l.t.Fatal(err)
		}
		lines = append(lines, drift...)
	}
	return strings.Join(lines, "\n")
}

func TestDualStackUpAndDownNFT(t *testing.T)    { onBackend(t, "nft", testDualUpAndDown) }
func TestDualStackUpAndDownLegacy(t *testing.T) { onBackend(t, "legacy", testDualUpAndDown) }

// testDualUpAndDown raises IPv6 twice, repairs each thing of it, and compares the host before and after. The host's
// default route comes from an advertisement: it is there all the time.
func testDualUpAndDown(t *testing.T, h *testHost) {
	nstest.Shell(t, `
		for i in all default ext0; do sysctl -qw net.ipv6.conf.$i.accept_dad=0; done
		for i in default ext0; do sysctl -qw net.ipv6.conf.$i.disable_ipv6=0; done
		sysctl -qw net.ipv6.conf.ext0.accept_ra=1
		ip -6 addr add 2001:db8:7::1/64 dev ext0 nodad
		ip -6 route add default via 2001:db8:7::2 dev ext0 proto ra
		timeout 60 sh -c "until ip -6 addr show dev ext0 scope link -tentative | grep -q inet6; do sleep 0.01; done"
		timeout 60 sh -c "until ip -6 route show table local | grep -q fe80.*ext0; do sleep 0.01; done"`)
	n, b := sbr0(), coldfront()
	n.Subnet6, b.Subnet6 = dualSubnet, dualSubnet
	host, host6, bridge, box := Host(), Host6(), Bridge(n), Ports(b)
	h.plans = []*Plan{&host, &host6, &bridge, &box}
	before := dumpHost(t)
	h.up()
	up := dumpHost(t)
	for _, broken := range []string{
		"ip6tables -t nat -F BOXRUN-DN-coldfront",
		"ip6tables -D FORWARD 1",
		"ip -6 addr del fd42::1/64 dev sbr0",
		"sysctl -qw net.ipv6.conf.sbr0.accept_ra=1",
	} {
		nstest.Shell(t, broken)
		h.k.Reread()
		if h.drift() == "" {
			t.Errorf("%s: no drift", broken)
		}
		h.k.Reread()
		h.apply()
		h.k.Reread()
		if got := h.drift(); got != "" {
			t.Errorf("%s: drift after the repair: %s", broken, got)
		}
	}
	sameHost(t, "after repairs", dumpHost(t), up)
	h.down()
	sameHost(t, "after the last down", dumpHost(t), before)
}

// rogue has the box db advertise itself as a router: neither its neighbour nor the host believe it. Without accept_ra 0 the
// neighbour would, and Inside6 takes away what it has learnt by then.
func (l *lab) rogue(t *testing.T) {
	t.Helper()
	learnt := func(namespace string) string {
		return nstest.Shell(t, "nsenter --net=/run/netns/"+namespace+" ip -6 route show proto ra; nsenter --net=/run/netns/"+
			namespace+" ip -6 addr show dynamic")
	}
	advertise := func() {
		nstest.Run(t, "nsenter", "--net=/run/netns/db", "env", programVariable+"=advertise", os.Args[0], "eth0")
	}
	advertise()
	advertise()
	time.Sleep(50 * time.Millisecond)
	if got := learnt("web"); got != "" {
		t.Errorf("the neighbour believes an advertisement:\n%s", got)
	}
	if got := nstest.Shell(t, "ip -6 route show proto ra dev sbr0"); got != "" {
		t.Errorf("the host believes an advertisement of a box:\n%s", got)
	}
	nstest.Shell(t, "nsenter --net=/run/netns/web sysctl -qw net.ipv6.conf.eth0.accept_ra=1")
	nstest.WaitFor(t, func() bool {
		advertise()
		return strings.Contains(learnt("web"), "default") && strings.Contains(learnt("web"), "inet6")
	})
	web := webBox()
	web.Subnet6 = dualSubnet
	inside := insideOf(web)
	drifted := func() (text string) {
		l.within("web", func() error {
			eth, err := dump.OfHost().LinkByName("eth0")
			if err != nil {
				return err
			}
			drift, err := inside.Drift(dump.OfHost(), eth)
			text = strings.Join(drift, "\n")
			return err
		})
		return text
	}
	if got := drifted(); !strings.Contains(got, "told") || !strings.Contains(got, "accept_ra") {
		t.Errorf("drift of a box that believes a neighbour:\n%s", got)
	}
	l.within("web", inside.Ensure)
	if got := learnt("web") + drifted(); got != "" {
		t.Errorf("left of an advertisement after the repair:\n%s", got)
	}
}

// advertise sends an advertisement of a router with the prefix fd66::/64 by a device, as a program of its own.
func advertise(device string) {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6)
	exitOn(err)
	exitOn(unix.BindToDevice(fd, device))
	exitOn(unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255))
	router := []byte{134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0}
	prefix := append([]byte{3, 4, 64, 0xc0, 0, 0, 7, 8, 0, 0, 7, 8, 0, 0, 0, 0, 0xfd, 0x66}, make([]byte, 14)...)
	exitOn(unix.Sendto(fd, append(router, prefix...), 0, &unix.SockaddrInet6{Addr: [16]byte{0: 0xff, 1: 2, 15: 1}}))
}

func TestHostsRouterIsBelievedNFT(t *testing.T) { onPackets(t, "nft", testHostsRouter) }

// testHostsRouter has the host learn its default route from the client, on a kernel with force_forwarding and as on
// kernels without: the route stays, and goes on to be learnt.
func testHostsRouter(t *testing.T, l *lab) {
	nstest.Shell(t, `
		sysctl -qw net.ipv6.conf.ext0.disable_ipv6=0 net.ipv6.conf.ext0.accept_dad=0 net.ipv6.conf.ext0.accept_ra=1 `+
		`net.ipv6.conf.sbr0.disable_ipv6=0
		timeout 60 sh -c "until ip -n client -6 addr show dev eth0 scope link -tentative | grep -q inet6; do sleep 0.1; done"`)
	route := func() string { return nstest.Shell(t, "ip -6 route show default dev ext0") }
	advertised := func() bool {
		nstest.Run(t, "nsenter", "--net=/run/netns/client", "env", programVariable+"=advertise", os.Args[0], "eth0")
		return strings.Contains(route(), "proto ra")
	}
	nstest.WaitFor(t, advertised)
	old := Host6()
	old.Advertisements, old.Sysctls = &Advertisements{}, []Sysctl{forwarding6()}
	for _, p := range []Plan{Host6(), old} {
		settings := func() string {
			return nstest.Shell(t, "sysctl -a 2>/dev/null | grep -e '^net.ipv6.*forwarding' -e '^net.ipv6.*accept_ra '")
		}
		before := settings()
		l.add(p)
		if route() == "" {
			t.Errorf("the default route is gone, after\n%s", strings.Join(p.Commands()[:3], "\n"))
		}
		nstest.Shell(t, "ip -6 route flush proto ra dev ext0")
		nstest.WaitFor(t, advertised)
		if err := l.plans[len(l.plans)-1].Undo(l.k); err != nil {
			t.Error(err)
		}
		if got := settings(); got != before || route() == "" {
			t.Errorf("after the undo, with the default route %q:\n%s\nbefore:\n%s", route(), got, before)
		}
	}
}

// TestDualGolden keeps the rules of IPv6, as typed.
func TestDualGolden(t *testing.T) {
	n, b := sbr0(), coldfront()
	n.Subnet6, b.Subnet6 = dualSubnet, dualSubnet
	b.AllowFrom = append(b.AllowFrom, mustPrefix("2001:db8::/32"))
	var text strings.Builder
	for _, p := range []Plan{Host6(), Bridge(n), Ports(b)} {
		p.Chains, p.Rules = nil, nil
		up, down := p.rulesets().commands()
		text.WriteString("# " + p.Owner + "\n" + strings.Join(up, "\n") + "\n# and back\n" + strings.Join(down, "\n") + "\n\n")
	}
	golden(t, "testdata/dual.golden", text.String())
}
