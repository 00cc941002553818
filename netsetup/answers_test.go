package netsetup

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"boxrun/netsetup/nstest"
)

// uplinksScript gives the lab's host another uplink, ext1 198.51.100.1, and makes the two networks outside let out
// only their own sources: a client beyond the routers of both, far 203.0.113.2.
//
//	far 203.0.113.2 --- 203.0.113.1 client 192.0.2.2 ----- ext0 192.0.2.1   host
//	    203.0.114.2 --- 203.0.114.1 isp1 198.51.100.254 -- ext1 198.51.100.1
const uplinksScript = `
	for n in isp1 far; do ip netns add $n; ip -n $n link set lo up; done
	ip link add ext1 type veth peer name eth0 netns isp1
	ip addr add 198.51.100.1/24 dev ext1; ip link set ext1 up
	ip -n isp1 addr add 198.51.100.254/24 dev eth0; ip -n isp1 link set eth0 up
	ip -n client link add far0 type veth peer name eth0 netns far
	ip -n isp1 link add far0 type veth peer name eth1 netns far
	ip -n client addr add 203.0.113.1/24 dev far0; ip -n client link set far0 up
	ip -n isp1 addr add 203.0.114.1/24 dev far0; ip -n isp1 link set far0 up
	ip -n far addr add 203.0.113.2/24 dev eth0; ip -n far link set eth0 up
	ip -n far addr add 203.0.114.2/24 dev eth1; ip -n far link set eth1 up
	ip -n far route add 192.0.2.0/24 via 203.0.113.1; ip -n far route add 198.51.100.0/24 via 203.0.114.1
	ip -n isp1 route add 203.0.113.0/24 via 203.0.114.2; ip -n client route add 203.0.114.0/24 via 203.0.113.2
	for n in client isp1 far; do
		nsenter --net=/run/netns/$n sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
		for d in $(nsenter --net=/run/netns/$n ls /proc/sys/net/ipv4/conf); do
			nsenter --net=/run/netns/$n sysctl -qw net/ipv4/conf/$d/rp_filter=0; done; done
	nsenter --net=/run/netns/client iptables -A FORWARD -i eth0 ! -s 192.0.2.0/24 -j DROP
	nsenter --net=/run/netns/isp1 iptables -A FORWARD -i eth0 ! -s 198.51.100.0/24 -j DROP`

// routingCase is a host's routing for which a published port did not answer somewhere.
type routingCase struct {
	name, set, unset string
	hung             []labProbe // these had no answer
	drift            string     // what is told before the repair
}

var (
	firstUplink  = labProbe{"far", "tcp", "203.0.113.2", "192.0.2.1:8080"}
	secondUplink = labProbe{"far", "tcp", "203.0.113.2", "198.51.100.1:8080"}
	besideFirst  = labProbe{"client", "tcp", "192.0.2.2", "192.0.2.1:8080"}
	besideSecond = labProbe{"isp1", "tcp", "", "198.51.100.1:8080"}
	hostDirect   = labProbe{"", "tcp", "", "10.22.0.8:80"}
)

// routingCases are each set up, asked, repaired, asked again, and taken away.
var routingCases = []routingCase{
	{
		"a rule for the source address, as Amazon Linux sets for a second interface",
		"ip route add default via 198.51.100.254 dev ext1 table 100; ip rule add from 198.51.100.1 lookup 100",
		"ip rule del from 198.51.100.1 lookup 100; ip route flush table 100", []labProbe{secondUplink},
		"the routing rule is missing: pref 32764 iif sbr0 fwmark 0x1000000/0x7f000000 lookup 100 protocol kernel",
	},
	{
		"the same where the rule for the host's own addresses comes later, as Cilium has it",
		"ip route add default via 198.51.100.254 dev ext1 table 100; ip rule add from 198.51.100.1 lookup 100; ip route add local default dev lo table 2004; " +
			"ip rule add pref 9 fwmark 0x200/0xf00 lookup 2004; ip rule add pref 100 lookup local; ip rule del pref 0",
		"ip rule add pref 0 lookup local; ip rule del pref 100; ip rule del pref 9; ip route flush table 2004; ip rule del from 198.51.100.1 lookup 100; ip route flush table 100",
		[]labProbe{secondUplink}, "the routing rule is missing: pref 6 to 10.22.0.0/16 lookup local protocol kernel",
	},
	{
		"a rule for packets that come in there, whose table lacks the bridge",
		"ip route add default via 198.51.100.254 dev ext1 table 100; ip rule add iif ext1 lookup 100; ip rule add from 198.51.100.1 lookup 100",
		"ip rule del iif ext1 lookup 100; ip rule del from 198.51.100.1 lookup 100; ip route flush table 100",
		[]labProbe{secondUplink, besideSecond}, "the routing rule is missing: pref 32762 to 10.22.0.0/16 lookup main protocol kernel",
	},
	{
		"a rule for the host's own address, whose table lacks the bridge",
		"ip route add default via 192.0.2.2 dev ext0 table 100; ip rule add from 192.0.2.1 lookup 100",
		"ip rule del from 192.0.2.1 lookup 100; ip route flush table 100", []labProbe{hostOwn},
		"the routing rule is missing: pref 32763 to 10.22.0.0/16 lookup main protocol kernel",
	},
	{
		"two default routes",
		"ip route add default via 198.51.100.254 dev ext1 metric 200",
		"ip route del default via 198.51.100.254 dev ext1 metric 200", []labProbe{secondUplink},
		"the route is missing: default via 198.51.100.254 dev ext1 table 10220",
	},
	{
		"two default routes, one by a router of IPv6, as where networks have no addresses of IPv4 to give away",
		"ip link set ext1 addrgenmode none; sysctl -qw net.ipv6.conf.ext1.disable_ipv6=0; nsenter --net=/run/netns/isp1 sysctl -qw net.ipv6.conf.eth0.disable_ipv6=0; ip -n isp1 addr add fe80::254/64 dev eth0 nodad; ip addr add fe80::1/64 dev ext1 nodad; " +
			"ip -4 route add default via inet6 fe80::254 dev ext1 metric 200",
		"ip -4 route del default via inet6 fe80::254 dev ext1 metric 200; ip -n isp1 addr del fe80::254/64 dev eth0; sysctl -qw net.ipv6.conf.ext1.disable_ipv6=1",
		[]labProbe{secondUplink}, "the route is missing: 0.0.0.0/0 via inet6 fe80::254 dev ext1 table 10220",
	},
	{
		"a default route of two parts",
		"ip route replace default nexthop via 192.0.2.2 dev ext0 nexthop via 198.51.100.254 dev ext1",
		"ip route replace default via 192.0.2.2", nil, "fwmark 0x2000000/0x7f000000",
	},
	{
		"a VPN of wg-quick that takes all",
		"ip link add wg0 type veth peer name wg0p; ip link set wg0p up; ip addr add 10.99.0.2/32 dev wg0; ip link set wg0 up; ip route add default dev wg0 table 51820; " +
			"ip rule add not fwmark 0xca6c lookup 51820; ip rule add lookup main suppress_prefixlength 0",
		"ip link del wg0; ip rule del not fwmark 0xca6c lookup 51820; ip rule del lookup main suppress_prefixlength 0",
		[]labProbe{firstUplink}, "fwmark 0x1000000/0x7f000000 lookup main",
	},
	{
		"a VPN of OpenVPN that takes both halves of the world",
		"ip link add tun0 type veth peer name tun0p; ip link set tun0p up; ip link set tun0 up; ip route add 0.0.0.0/1 dev tun0; ip route add 128.0.0.0/1 dev tun0",
		"ip link del tun0", []labProbe{firstUplink}, "the route is missing: default via 192.0.2.2 dev ext0 table 10220",
	},
	{
		"an exit node of Tailscale",
		"ip link add ts0 type veth peer name ts0p; ip link set ts0p up; ip link set ts0 up; ip route add default dev ts0 table 52; " +
			"ip rule add pref 5210 fwmark 0x80000/0xff0000 lookup main; ip rule add pref 5270 lookup 52",
		"ip link del ts0; ip rule del pref 5210; ip rule del pref 5270", []labProbe{firstUplink, besideFirst, hostOwn},
		"the routing rule is missing: pref 5208 to 10.22.0.0/16 lookup main protocol kernel",
	},
}

func TestAnswersNFT(t *testing.T)    { onPackets(t, "nft", testAnswers) }
func TestAnswersLegacy(t *testing.T) { onPackets(t, "legacy", testAnswers) }

// testAnswers asks from a client beyond the routers of two uplinks. What the case sets comes while boxes are up, and
// goes so: the next repair follows both times, and leaves the rules and routes of others.
func testAnswers(t *testing.T, l *lab) {
	nstest.Shell(t, uplinksScript)
	l.expect(firstUplink, "203.0.113.2 to port 80", "with a single default route")
	plain := l.routing()
	l.needsNothing("ip rule add l3mdev pref 1000", "ip rule del pref 1000") // as of a kernel with a VRF
	l.needsNothing("ip rule add nop pref 1001", "ip rule del pref 1001")
	l.needsNothing("ip rule add prohibit iif ext1 to 198.18.0.0/15 pref 1002", "ip rule del pref 1002")
	for _, c := range routingCases {
		nstest.Shell(t, c.set)
		for _, p := range c.hung {
			l.expect(p, noAnswer, c.name+", before the repair")
		}
		theirs := l.routing()
		if drift := l.drift(); !strings.Contains(drift, c.drift) {
			t.Errorf("%s: drift does not tell %q:\n%s", c.name, c.drift, drift)
		}
		l.apply()
		if drift := l.drift(); drift != "" {
			t.Errorf("%s, after the repair: %s", c.name, drift)
		}
		l.expectAnswers(c)
		for _, p := range l.plans {
			if p.Answers != nil {
				if err := p.Answers.undo(l.k); err != nil {
					t.Errorf("%s, undo: %v", c.name, err)
				}
			}
		}
		sameHost(t, c.name+", undone:", l.routing(), theirs)
		l.apply()
		nstest.Shell(t, c.unset)
		l.apply()
		sameHost(t, c.name+", gone and repaired:", l.routing(), plain)
	}
}

// acceptedBefore are rules of others that accept packets before boxrun's rules are asked, with the answer of a probe then.
var acceptedBefore = []struct {
	rule  string
	probe labProbe
	want  string
}{
	{"-t mangle -%s PREROUTING -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", secondUplink, noAnswer}, // as Calico's
	{"-t mangle -%s FORWARD -i ext1 -j ACCEPT", secondUplink, noAnswer},
	{"-t mangle -%s FORWARD -i ext0 -j ACCEPT", published, "192.0.2.2 to port 80, mss 1400"},
	{"-t raw -%s PREROUTING -i sbr0 -j ACCEPT", guarded, "10.22.0.8 to port 9999"},
}

func TestAcceptedBeforeNFT(t *testing.T)    { onPackets(t, "nft", testAcceptedBefore) }
func TestAcceptedBeforeLegacy(t *testing.T) { onPackets(t, "legacy", testAcceptedBefore) }

// testAcceptedBefore has others accept packets before boxrun's rules are asked, and wants that told and mended. Rules of boxrun
// among themselves are in no order.
func testAcceptedBefore(t *testing.T, l *lab) {
	nstest.Shell(t, uplinksScript+"; "+routingCases[0].set)
	l.apply()
	for _, c := range acceptedBefore {
		nstest.Shell(t, "iptables "+fmt.Sprintf(c.rule, "I"))
		l.expect(c.probe, c.want, "with "+c.rule)
		if drift := l.drift(); !strings.Contains(drift, " has other rules before: ") {
			t.Errorf("with %s drift tells %q", c.rule, drift)
		}
		l.apply()
		if drift := l.drift(); drift != "" {
			t.Errorf("with %s, after the repair: %s", c.rule, drift)
		}
		l.expect(secondUplink, "203.0.113.2 to port 80", "after the repair")
		l.expect(published, "192.0.2.2 to port 80", "after the repair")
		l.expect(guarded, noAnswer, "after the repair")
		nstest.Shell(t, "iptables "+fmt.Sprintf(c.rule, "D"))
	}
	nstest.Shell(t, routingCases[0].unset)
}

// needsNothing has somebody add a rule that leads no packet of a box astray: boxrun adds nothing for such a rule.
func (l *lab) needsNothing(set, unset string) {
	l.t.Helper()
	nstest.Shell(l.t, set)
	theirs := l.routing()
	if drift := l.drift(); drift != "" {
		l.t.Errorf("after %s drift tells\n%s\nwant nothing", set, drift)
	}
	l.apply()
	sameHost(l.t, set+", and repaired:", l.routing(), theirs)
	nstest.Shell(l.t, unset)
	l.apply()
}

// expectAnswers asks from beyond the routers and from beside the host, where the host has a way back.
func (l *lab) expectAnswers(c routingCase) {
	l.t.Helper()
	l.expect(firstUplink, "203.0.113.2 to port 80", c.name)
	l.expect(besideFirst, "192.0.2.2 to port 80", c.name)
	l.expect(besideSecond, "198.51.100.254 to port 80", c.name)
	l.expect(hostOwn, "192.0.2.1 to port 80", c.name)
	l.expect(hostAll, "10.22.0.1 to port 80", c.name)
	l.expect(hostDirect, "10.22.0.1 to port 80", c.name)
	l.expect(otherBox, "10.22.0.1 to port 80", c.name)
	if strings.Contains(c.set, "ext1") {
		l.expect(secondUplink, "203.0.113.2 to port 80", c.name)
	}
}

// routing returns the host's routing and marks as text.
func (l *lab) routing() string {
	l.t.Helper()
	return nstest.Shell(l.t, "ip rule; ip route show table all; iptables-save -t mangle | grep -v '^[#:]'; ip rule show | wc -l")
}

// drift returns what is out of place, a line each.
func (l *lab) drift() string {
	l.t.Helper()
	l.k.Reread()
	var all []string
	for _, p := range l.plans {
		lines, err := p.Drift(l.k)
		if err != nil {
			l.t.Fatal(err)
		}
		all = append(all, lines...)
	}
	return strings.Join(all, "\n")
}

func TestAnswersOfTwoBridgesNFT(t *testing.T) { onBackend(t, "nft", testAnswersOfTwoBridges) }

// Two bridges have a table in common, which stays for the other when the first of them goes.
func testAnswersOfTwoBridges(t *testing.T, h *testHost) {
	const look = "ip rule; ip route show table all; iptables-save -t mangle | grep -v '^[#:]'"
	before := nstest.Shell(t, look)
	h.up()
	alone := nstest.Shell(t, look)
	n := sbr0()
	n.Bridge, n.Subnet, n.Dir = "sbr1", netip.MustParsePrefix("10.23.0.0/16"), t.TempDir()
	second := Bridge(n)
	h.k.Reread()
	if err := errorsOf(second.Record(h.k), second.Apply(h.k)); err != nil {
		t.Fatal(err)
	}
	h.k.Reread()
	if lines, err := second.Drift(h.k); len(lines) > 0 || err != nil || h.drift() != "" {
		t.Errorf("with both bridges, drifted: %v, %v, %s", lines, err, h.drift())
	}
	if got := nstest.Shell(t, "ip rule show iif sbr1 | wc -l; ip rule show iif sbr0 | wc -l"); got != "2\n2" {
		t.Errorf("rules for each bridge: got %q, want 2 and 2", got)
	}
	if err := second.Undo(h.k); err != nil {
		t.Error(err)
	}
	sameHost(t, "with the second bridge gone", nstest.Shell(t, look), alone)
	h.down()
	sameHost(t, "with both gone", nstest.Shell(t, look), before)
}
