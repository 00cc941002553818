package netsetup

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"boxrun/netsetup/nstest"
	"boxrun/netsetup/rules"
)

func TestPacketsNFT(t *testing.T)    { onPackets(t, "nft", testPackets) }
func TestPacketsLegacy(t *testing.T) { onPackets(t, "legacy", testPackets) }

func onPackets(t *testing.T, backend string, test func(t *testing.T, l *lab)) {
	t.Helper()
	nstest.WithBackend(t, backend, nstest.SideBySide, func(t *testing.T) { test(t, newLab(t)) })
}

// The questions, by what they are about.
var (
	published  = labProbe{"client", "tcp", "", "192.0.2.1:8080"}
	udp        = labProbe{"client", "udp", "", "192.0.2.1:5353"}
	rangePort  = labProbe{"client", "tcp", "", "192.0.2.1:9002"}
	shifted    = labProbe{"client", "udp", "", "192.0.2.1:7002"}
	oneAddress = labProbe{"client", "tcp", "", "192.0.2.9:8443"}
	otherOne   = labProbe{"client", "tcp", "", "192.0.2.1:8443"}
	allowed    = labProbe{"client", "tcp", "192.0.2.2", "192.0.2.1:8081"}
	notAllowed = labProbe{"client", "tcp", "192.0.2.3", "192.0.2.1:8081"}
	unknown    = labProbe{"client", "tcp", "", "192.0.2.1:3307"}
	direct     = labProbe{"client", "tcp", "", "10.22.0.8:80"}
	loopback   = labProbe{"client", "tcp", "", "127.0.0.1:8306"}
	loopAll    = labProbe{"client", "tcp", "", "127.0.0.1:8080"}
	hostLocal  = labProbe{"", "tcp", "", "127.0.0.1:8306"}
	hostAll    = labProbe{"", "tcp", "", "127.0.0.1:8080"}
	hostOwn    = labProbe{"", "tcp", "", "192.0.2.1:8080"}
	hostDB     = labProbe{"", "tcp", "", "192.0.2.1:8081"}
	outside    = labProbe{"web", "tcp", "", "192.0.2.2:8000"}
	elsewhere  = labProbe{"", "tcp", "", "192.0.2.2:8080"}
	boxOutside = labProbe{"web", "tcp", "", "192.0.2.2:8080"}
	closed     = labProbe{"web", "udp", "", "192.0.2.2:9"}
	itself     = labProbe{"web", "tcp", "", "192.0.2.1:8080"}
	itselfDB   = labProbe{"db", "tcp", "", "192.0.2.1:8081"}
	otherBox   = labProbe{"db", "tcp", "", "192.0.2.1:8080"}
	neighbour  = labProbe{"web", "tcp", "", "10.22.0.9:80"}
	webToDB    = labProbe{"web", "tcp", "", "192.0.2.1:8081"}
	credential = labProbe{"web", "tcp", "", "169.254.169.254:80"}
	cloudNames = labProbe{"web", "tcp", "", "169.254.169.254:53"}
	trusted    = labProbe{"db", "tcp", "", "169.254.169.254:80"}
	diameter   = labProbe{"client", "sctp", "", "192.0.2.1:3868"}
	signalling = labProbe{"client", "sctp", "", "192.0.2.1:2906"}
	closedSCTP = labProbe{"client", "sctp", "", "10.22.0.8:3868"}
	hostSCTP   = labProbe{"", "sctp", "", "127.0.0.1:3868"}
	ownSCTP    = labProbe{"db", "sctp", "", "192.0.2.1:2906"}
	guarded    = labProbe{"web", "tcp", "", "127.0.0.1:9999"}
)

// reach is who is to reach what, whatever FORWARD's policy is.
var reach = []struct {
	probe labProbe
	want  string
}{
	{published, "192.0.2.2 to port 80"},
	{udp, "192.0.2.2 to port 53"},
	{rangePort, "192.0.2.2 to port 9002"},
	{shifted, "192.0.2.2 to port 6002"},
	{oneAddress, "192.0.2.2 to port 443"},
	{otherOne, noAnswer},
	{allowed, "192.0.2.2 to port 80"},
	{notAllowed, noAnswer},
	{unknown, noAnswer},
	{direct, noAnswer},
	{loopback, noAnswer},
	{loopAll, noAnswer},
	{hostLocal, "10.22.0.1 to port 3306"},
	{hostAll, "10.22.0.1 to port 80"},
	{hostOwn, "192.0.2.1 to port 80"},
	{hostDB, "192.0.2.1 to port 80"}, // allow_from does not bind the host
	{outside, "192.0.2.1 to port 8000"},
	{elsewhere, "192.0.2.1 to port 8080"}, // the same port of another machine is that one's
	{boxOutside, "192.0.2.1 to port 8080"},
	{closed, portClosed}, // a message that is related to what the box sent
	{itself, "10.22.0.1 to port 80"},
	{itselfDB, "10.22.0.1 to port 80"}, // nor a box that asks for itself
	{otherBox, "10.22.0.1 to port 80"},
	{neighbour, "10.22.0.8 to port 80"},
	{webToDB, noAnswer}, // but its neighbours
	{diameter, "192.0.2.2 to port 3868"},
	{signalling, "192.0.2.2 to port 12906"},
	{closedSCTP, noAnswer},
	{hostSCTP, "10.22.0.1 to port 3868"},
	{ownSCTP, "10.22.0.1 to port 12906"},
	{guarded, noAnswer},
	{credential, noAnswer},
	{cloudNames, "192.0.2.1 to port 53"},
	{trusted, "192.0.2.1 to port 80"},
}

func testPackets(_ *testing.T, l *lab) {
	for _, policy := range []string{"ACCEPT", "DROP"} {
		for _, bridged := range []bool{false, true} {
			if !l.bridgeNetfilter(bridged) && bridged {
				continue // br_netfilter is not there, and nothing needs it
			}
			l.policy(policy)
			for _, r := range reach {
				l.expect(r.probe, r.want, fmt.Sprintf("policy %s, bridge-nf-call-iptables %v", policy, bridged))
			}
		}
	}
}

// fault takes one rule away, or another thing of the plans, and names what then goes wrong.
type fault struct {
	table, chain, rule string // the rule, by a part of its text
	script             string // without one: what is done instead
	policy             string // of FORWARD; "" is ACCEPT
	bridged            bool   // with bridge-nf-call-iptables 1
	probe              labProbe
	want               string
}

// faults takes away each rule that boxes need, or are held by. The answers are what they must not be.
var faults = []fault{
	{"raw", "PREROUTING", "-j BOXRUN-GUARD", "", "", false, guarded, "10.22.0.8 to port 9999"},
	{"raw", "BOXRUN-GUARD", "-d 127.0.0.0/8", "", "", false, guarded, "10.22.0.8 to port 9999"},
	{"mangle", "FORWARD", "-j BOXRUN-MSS", "", "", false, published, "192.0.2.2 to port 80, mss 1400"},
	{"mangle", "BOXRUN-MSS", "-o sbr0", "", "", false, published, "192.0.2.2 to port 80, mss 1400"},
	{"mangle", "BOXRUN-MSS", "-i sbr0", "", "", false, outside, "192.0.2.1 to port 8000, mss 1400"},
	{"filter", "FORWARD", "-j BOXRUN-FWD", "", "ACCEPT", false, direct, "192.0.2.2 to port 80"},
	{"filter", "FORWARD", "-j BOXRUN-FWD", "", "ACCEPT", false, notAllowed, "192.0.2.3 to port 80"},
	{"filter", "FORWARD", "-j BOXRUN-FWD", "", "DROP", false, published, noAnswer},
	{"filter", "BOXRUN-FWD", "-j BOXRUN-REPLY", "", "", false, outside, noAnswer},
	{"filter", "BOXRUN-REPLY", "-j ACCEPT", "", "", false, outside, noAnswer},
	{"filter", "BOXRUN-FWD", "-j BOXRUN-BOXES", "", "ACCEPT", false, direct, "192.0.2.2 to port 80"},
	{"filter", "BOXRUN-FWD", "-j BOXRUN-BOXES", "", "DROP", false, published, noAnswer},
	{"filter", "BOXRUN-BOXES", "-j BOXRUN-FW-web", "", "ACCEPT", false, direct, "192.0.2.2 to port 80"},
	{"filter", "BOXRUN-BOXES", "-j BOXRUN-FW-web", "", "DROP", false, published, noAnswer},
	{"filter", "BOXRUN-BOXES", "-j BOXRUN-FW-db", "", "ACCEPT", false, notAllowed, "192.0.2.3 to port 80"},
	{"filter", "BOXRUN-FWD", "-j BOXRUN-OUT", "", "DROP", false, outside, noAnswer},
	{"filter", "BOXRUN-OUT", "-j ACCEPT", "", "DROP", false, outside, noAnswer},
	{"filter", "BOXRUN-BOXES", "-d 169.254.169.254", "", "", false, credential, "192.0.2.1 to port 80"},
	{"filter", "BOXRUN-FW-web", "--dport 80", "", "", false, published, noAnswer},
	{"filter", "BOXRUN-FW-web", "--dport 53", "", "", false, udp, noAnswer},
	{"filter", "BOXRUN-FW-web", "--dport 443", "", "", false, oneAddress, noAnswer},
	{"filter", "BOXRUN-FW-web", "--dport 9000:9003", "", "", false, rangePort, noAnswer},
	{"filter", "BOXRUN-FW-web", "--dport 6000:6003", "", "", false, shifted, noAnswer},
	{"filter", "BOXRUN-FW-web", "-j RETURN", "", "", true, labProbe{"db", "tcp", "", "10.22.0.8:80"}, noAnswer},
	{"filter", "BOXRUN-FW-web", "-j DROP", "", "ACCEPT", false, direct, "192.0.2.2 to port 80"},
	{"filter", "BOXRUN-FW-db", "-s 192.0.2.2 ", "", "", false, allowed, noAnswer},
	{"filter", "BOXRUN-FW-db", "-s 10.22.0.9 ", "", "", false, itselfDB, noAnswer},
	{"filter", "BOXRUN-FW-db", "-j RETURN", "", "", true, neighbour, noAnswer},
	{"filter", "BOXRUN-FW-db", "-j DROP", "", "ACCEPT", false, notAllowed, "192.0.2.3 to port 80"},
	{"nat", "PREROUTING", "-j BOXRUN-DNAT", "", "", false, published, noAnswer},
	{"nat", "OUTPUT", "-j BOXRUN-DNAT", "", "", false, hostLocal, noAnswer},
	{"nat", "OUTPUT", "-j BOXRUN-DNAT", "", "", false, hostOwn, noAnswer},
	{"nat", "BOXRUN-DNAT", "-j BOXRUN-DN-web", "", "", false, published, noAnswer},
	{"nat", "BOXRUN-DNAT", "-j BOXRUN-DN-db", "", "", false, allowed, noAnswer},
	{"nat", "BOXRUN-DN-db", "--dport 8081", "", "", false, allowed, noAnswer},
	{"nat", "BOXRUN-DN-web", "--dport 8080", "", "", false, published, noAnswer},
	{"nat", "BOXRUN-DN-web", "--dport 5353", "", "", false, udp, noAnswer},
	{"nat", "BOXRUN-DN-web", "--dport 8306", "", "", false, hostLocal, noAnswer},
	{"nat", "BOXRUN-DN-web", "--dport 8443", "", "", false, oneAddress, noAnswer},
	{"filter", "BOXRUN-FW-web", "-p sctp --dport 3868", "", "", false, diameter, noAnswer},
	{"filter", "BOXRUN-FW-web", "--dport 12905:12907", "", "", false, signalling, noAnswer},
	{"nat", "BOXRUN-DN-web", "-p sctp --dport 3868", "", "", false, diameter, noAnswer},
	{"nat", "BOXRUN-DN-web", "--dport 2905:2907", "", "", false, signalling, noAnswer},
	{"nat", "BOXRUN-DN-web", "--dport 9000:9003", "", "", false, rangePort, noAnswer},
	{"nat", "BOXRUN-DN-web", "--dport 7000:7003", "", "", false, shifted, noAnswer},
	{"nat", "POSTROUTING", "-j BOXRUN-SNAT", "", "", false, outside, "10.22.0.8 to port 8000"},
	{"nat", "BOXRUN-SNAT", "! -d 10.22.0.0/16", "", "", false, outside, "10.22.0.8 to port 8000"},
	{"nat", "BOXRUN-SNAT", "-s 10.22.0.0/16 -d", "", "", false, itself, noAnswer},
	{"nat", "BOXRUN-SNAT", "-s 10.22.0.0/16 -d", "", "", false, otherBox, noAnswer},
	{"nat", "BOXRUN-SNAT", "-s 127.0.0.0/8", "", "", false, hostLocal, noAnswer},

	{script: "iptables -t nat -R PREROUTING 1 -m addrtype --dst-type LOCAL -j BOXRUN-DNAT",
		probe: loopAll, want: "192.0.2.2 to port 80"},
	{script: "sysctl -qw net.ipv4.ip_forward=0", probe: published, want: noAnswer},
	{script: "sysctl -qw net.ipv4.conf.sbr0.route_localnet=0", probe: hostLocal, want: noAnswer},
	{script: "bridge link set dev veth8 hairpin off", bridged: true, probe: itself, want: noAnswer},
	{script: "ip addr flush dev sbr0 scope global", probe: published, want: noAnswer},
}

func TestFaultsNFT(t *testing.T)    { onPackets(t, "nft", testFaults) }
func TestFaultsLegacy(t *testing.T) { onPackets(t, "legacy", testFaults) }

// testFaults shows that each rule is needed, and that Apply brings it back.
func testFaults(t *testing.T, l *lab) {
	covered := map[string]bool{}
	for _, f := range faults {
		if !l.bridgeNetfilter(f.bridged) && f.bridged {
			t.Logf("not shown, as br_netfilter is not there: %s %s %s", f.chain, f.rule, f.script)
			continue
		}
		if f.policy == "" {
			f.policy = "ACCEPT"
		}
		l.policy(f.policy)
		without := l.breakRule(f, covered)
		l.expect(f.probe, f.want, "policy "+f.policy+", without "+without)
		l.apply()
	}
	for _, rule := range l.allRules() {
		elsewhere := append([]string{"INVALID", prefixStray}, forgedRules()...) // see testStrays and testForgedSources
		if !covered[rule] && !slices.ContainsFunc(elsewhere, func(part string) bool { return strings.Contains(rule, part) }) {
			t.Errorf("no fault takes away the rule %s", rule)
		}
	}
	l.policy("ACCEPT")
	l.bridgeNetfilter(false)
	for _, r := range reach {
		l.expect(r.probe, r.want, "after all repairs")
	}
}

// breakRule does what the fault says, and tells what that is.
func (l *lab) breakRule(f fault, covered map[string]bool) string {
	l.t.Helper()
	if f.script != "" {
		nstest.Shell(l.t, f.script)
		return f.script
	}
	have, err := l.k.rules(v4)
	if err != nil {
		l.t.Fatal(err)
	}
	for _, r := range slices.Backward(have.Rules(f.table, f.chain)) { // the last -j DROP is the one for all that is left
		rule := r.Text
		if strings.Contains(rule+" ", f.rule+" ") || strings.Contains(rule, f.rule) && strings.HasSuffix(f.rule, " ") {
			name := f.table + "/" + f.chain + " " + rule
			covered[name] = true
			nstest.Shell(l.t, fmt.Sprintf("iptables -t %s -D %s %s", f.table, f.chain, rule))
			return name
		}
	}
	l.t.Fatalf("no rule of %s/%s has %q", f.table, f.chain, f.rule)
	return ""
}

// allRules returns the rules of all plans as breakRule names them.
func (l *lab) allRules() []string {
	var all []string
	for _, p := range l.plans {
		for _, c := range p.Chains {
			for _, rule := range c.Rules {
				all = append(all, c.Table+"/"+c.Name+" "+rules.Normal(rule))
			}
		}
		for _, r := range p.Rules {
			all = append(all, r.Table+"/"+r.Chain+" "+rules.Normal(r.Spec))
		}
	}
	return all
}

func TestTrafficOfOthersNFT(t *testing.T)    { onPackets(t, "nft", testTrafficOfOthers) }
func TestTrafficOfOthersLegacy(t *testing.T) { onPackets(t, "legacy", testTrafficOfOthers) }

// lanScript makes another network of the host's, 203.0.113.0/24, to which the client has a route.
const lanScript = `
	ip netns add lan; ip -n lan link set lo up
	ip link add lan0 type veth peer name eth0 netns lan
	ip addr add 203.0.113.1/24 dev lan0; ip link set lan0 up
	ip -n lan addr add 203.0.113.2/24 dev eth0; ip -n lan link set eth0 up
	ip -n lan route add default via 203.0.113.1
	ip -n client route add 203.0.113.0/24 via 192.0.2.1`

// testTrafficOfOthers has the host forward between two networks that are none of boxrun's: nothing of it is accepted,
// translated or clamped beside what the host's own rules say.
func testTrafficOfOthers(t *testing.T, l *lab) {
	nstest.Shell(t, lanScript)
	l.serve("lan", "tcp/203.0.113.2:80", "tcp/203.0.113.2:8080")
	across, samePort := labProbe{"client", "tcp", "", "203.0.113.2:80"}, labProbe{"client", "tcp", "", "203.0.113.2:8080"}
	l.policy("ACCEPT")
	l.expect(across, "192.0.2.2 to port 80, mss 1400", "policy ACCEPT")
	l.expect(samePort, "192.0.2.2 to port 8080", "policy ACCEPT")
	nstest.Shell(t, "iptables -A FORWARD -d 192.0.2.2 -i lan0 -m conntrack --ctstate ESTABLISHED -j DROP")
	l.expect(across, noAnswer, "replies dropped by the host's own rule")
	nstest.Shell(t, "iptables -D FORWARD -d 192.0.2.2 -i lan0 -m conntrack --ctstate ESTABLISHED -j DROP; "+
		"iptables -A FORWARD -i lan0 -m conntrack --ctstate ESTABLISHED -j ACCEPT")
	l.policy("DROP")
	l.expect(across, noAnswer, "policy DROP")
}

func TestConntrackNFT(t *testing.T)    { onPackets(t, "nft", testConntrack) }
func TestConntrackLegacy(t *testing.T) { onPackets(t, "legacy", testConntrack) }

// testConntrack keeps connections over changes of the rules that decided on them.
func testConntrack(t *testing.T, l *lab) {
	tcp := l.converse(labProbe{"client", "tcp", "192.0.2.3", "192.0.2.1:8080"})
	box := webBox()
	box.AllowFrom = []netip.Prefix{netip.MustParsePrefix("192.0.2.2/32")}
	l.swap(box)
	if got := tcp.askWithin(t, silence); got != noAnswer {
		t.Errorf("an established connection, after allow_from was narrowed: got %q, want %q", got, noAnswer)
	}

	flow := l.converse(labProbe{"client", "udp", "192.0.2.2", "192.0.2.1:5353"})
	l.swap(webBox())
	if got, want := flow.ask(t), "192.0.2.2 to port 53, mss 0"; got != want {
		t.Errorf("a flow that is still allowed: got %q, want %q", got, want)
	}
	box.Ports = nil
	l.swap(box)
	if got := flow.askWithin(t, silence); got != noAnswer && got != portClosed {
		t.Errorf("a flow to a port that is no longer published: got %q, want %q", got, noAnswer)
	}
	l.swap(webBox())
	if got, want := flow.ask(t), "192.0.2.2 to port 53, mss 0"; got != want {
		t.Errorf("a flow that began before the port was published: got %q, want %q", got, want)
	}

	l.converse(outside)
	if err := l.plans[2].Undo(l.k); err != nil {
		t.Fatal(err)
	}
	entries, err := l.k.link.ConntrackTableList(0x1, 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.Contains(e.String(), "10.22.0.8") {
			t.Errorf("after undo the kernel still tracks %v", e)
		}
	}
}

// converse begins a connection that must be answered.
func (l *lab) converse(p labProbe) *conversation {
	l.t.Helper()
	c := converseWith(l.t, l.program("probe", p.namespace, p.proto, p.from, p.to, answerTime.String()))
	if got := c.ask(l.t); got == noAnswer {
		l.t.Fatalf("%v: %s", p, got)
	}
	return c
}

// swap gives web another plan.
func (l *lab) swap(b Box) {
	l.t.Helper()
	p := Ports(b)
	if err := p.Apply(l.k); err != nil {
		l.t.Fatal(err)
	}
	l.plans[2] = &p
}
