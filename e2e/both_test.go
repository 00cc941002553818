package e2e

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"boxrun/e2e/testhost"
	"boxrun/launcher/doctor"
)

// both is a box on the bridge and on the LAN of eth0.
const both = `image = "/srv/web"
[network]
ports = ["8080:80", "8083:83"]
parent = "eth0"
address = "192.0.2.50/24"
gateway = "` + testhost.ClientAddr + `"
[ready]
tcp = [80]
hint = "http://:80/"
`

// beyondScript makes a client beyond a router: $1, 203.0.113.2 and 2001:db8:9::2, behind $2, with NAT for nobody.
const beyondScript = `ip netns add $1; ip -n $1 link set lo up
	ip -n $2 link add far0 type veth peer name eth0 netns $1
	ip -n $2 addr add 203.0.113.1/24 dev far0; ip -n $2 addr add 2001:db8:9::1/64 dev far0 nodad; ip -n $2 link set far0 up
	ip -n $1 addr add 203.0.113.2/24 dev eth0; ip -n $1 addr add 2001:db8:9::2/64 dev eth0 nodad; ip -n $1 link set eth0 up
	ip -n $1 route add default via 203.0.113.1; ip -n $1 route add default via 2001:db8:9::1
	ip netns exec $2 sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1`

// beyond does that with the client as the router, and returns what asks from there: the code of HTTP, or "000".
func (h host) beyond() (far func(url string) string) {
	h.t.Helper()
	name := h.Name() + "-f"
	h.t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", name).Run() })
	if out, err := exec.Command("bash", "-ec", beyondScript, "beyond", name, h.Name()+"-c").CombinedOutput(); err != nil {
		h.t.Fatalf("%v: %s", err, out)
	}
	return func(url string) string {
		return code(exec.Command("ip", append([]string{"netns", "exec", name}, asks(url)...)...))
	}
}

// asks is the command that prints the code of HTTP, "000" for no answer.
func asks(url string) []string {
	return []string{"curl", "-gsS", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", url}
}

func code(cmd *exec.Cmd) string {
	out, _ := cmd.Output() // curl ends with an error where nobody answers
	return string(out)
}

// A place asks a URL from somewhere.
type place struct {
	name string
	asks func(url string) string
	urls []string
}

// places are those that reach the box on the bridge and on the LAN, and the URLs by which they do.
func (h host) places(onLAN string, published ...string) []place {
	own := func(argv ...string) func(string) string {
		return func(url string) string { return h.run(append(argv, asks(url)...)...).Stdout }
	}
	client := func(url string) string { return code(h.ClientCommand(h.t.Context(), asks(url)...)) }
	return []place{
		{"the LAN", client, slices.Concat(published, []string{onLAN})},
		{"the host", own(), slices.Concat(published, []string{onLAN, "http://localhost:8080/"})},
		{"the box", own("boxrun", "exec", "both", "--"), slices.Concat(published, []string{onLAN})},
	}
}

// reached wants 200 from each place by each URL.
func (h host) reached(when string, places []place) {
	h.t.Helper()
	for _, p := range places {
		for _, url := range p.urls {
			if got := p.asks(url); got != "200" {
				h.t.Errorf("%s, from %s %s: got %s, want 200", when, p.name, url, got)
			}
		}
	}
}

// A box on the bridge and on the LAN answers each client where the client has asked: on the LAN and beyond the router, by the
// address on the LAN and by published ports of both families, with the clients' own addresses. So after a restart, which keeps
// addresses and MAC, after a repair and after a power cut; after the down nothing stays.
func TestABoxOnTheBridgeAndTheLAN(t *testing.T) {
	const onLAN, published = "http://192.0.2.50/", "http://192.0.2.1:8080/"
	h := newHost(t)
	h.six()
	far := h.beyond()
	h.profile("both", both)
	h.profile("other", dualProfile(""))
	h.profile("taken", strings.Replace(both, `"8080:80", "8083:83"`, `"8081:80"`, 1))
	before := h.dump()
	h.sh("mv /usr/lib/cni/macvlan /usr/lib/cni/away")
	h.refuses(1, []string{"both.toml: network.parent: a LAN needs what Apptainer lacks: no macvlan in /usr"}, "boxrun", "up", "both")
	h.sh("mv /usr/lib/cni/away /usr/lib/cni/macvlan")
	h.same(before, stays()...)

	r := h.run("boxrun", "up", "both", "other")
	if r.Code != 0 || !containsAll(r.Stderr, []string{"both: started at 10.22.0.", " and at 192.0.2.50 on the LAN of eth0", "http://127.0.0.1:8080"}) {
		t.Fatalf("up: %v", r)
	}
	h.refuses(1, []string{"network.address", "192.0.2.50", `box "both"`}, "boxrun", "up", "taken")
	mac := h.must("boxrun", "exec", "both", "--", "cat", "/sys/class/net/eth1/address")
	places := append(h.places(onLAN, published, sixURL), place{"beyond the router", far, []string{onLAN, published, sixURL}},
		place{"a box beside", func(url string) string {
			return h.run(append([]string{"boxrun", "exec", "other", "--"}, asks(url)...)...).Stdout
		},
			[]string{onLAN, published, sixURL, "http://both/"}})
	goesOut := func(when string) {
		t.Helper()
		h.reached(when, places)
		for _, to := range []string{testhost.ClientAddr, testhost.HostAddr, "203.0.113.2", "2001:db8:7::2"} {
			if r := h.run("boxrun", "exec", "both", "--", "ping", "-c", "1", "-W", "5", to); r.Code != 0 {
				t.Errorf("%s, the box does not reach %s: %v", when, to, r)
			}
		}
		h.tells([]string{"192.0.2.50", "in place"}, "boxrun", "status", "both")
	}
	goesOut("after up")
	h.keepsSources()
	if got := h.must("boxrun", "exec", "both", "--", "cat", "/proc/sys/net/ipv4/ip_forward"); got != "0\n" {
		t.Errorf("the box forwards between its networks: %s", got)
	}
	if got := boxes(h)[0]; got.Second != "192.0.2.50" || !strings.HasPrefix(got.Address, "10.22.0.") {
		t.Errorf("ps says %q and %q", got.Address, got.Second)
	}
	h.finds(h.checks("both"), doctor.Pass, "LAN", "192.0.2.50 on the LAN of eth0")
	t.Run("drift", func(t *testing.T) { h.in(t).losesTheWayOfAnswers(far) })
	goesOut("after the repair")
	t.Run("trace", func(t *testing.T) { h.in(t).tracedOnTheLAN() })

	h.must("boxrun", "restart", "both")
	if again := h.must("boxrun", "exec", "both", "--", "cat", "/sys/class/net/eth1/address"); again != mac {
		t.Errorf("the MAC is %q, and was %q", again, mac)
	}
	goesOut("after a restart")
	h.must("boxrun", "down", "both", "other")
	h.same(before, append(stays(), `^/etc/boxrun/profiles`)...)
}

// keepsSources wants the box to have seen the clients by their own addresses, on the LAN and by the published port.
func (h host) keepsSources() {
	h.t.Helper()
	if why := eventually(patience, func() string { // nginx writes the log after the answer
		log := h.must("boxrun", "exec", "both", "--", "cut", "-d ", "-f1", "/var/log/nginx/access.log")
		for from, least := range map[string]int{testhost.ClientAddr: 2, "203.0.113.2": 2, "2001:db8:7::2": 1, "2001:db8:9::2": 1} {
			if strings.Count("\n"+log, "\n"+from) < least {
				return "the box has not seen " + from + " often enough:\n" + log
			}
		}
		return ""
	}); why != "" {
		h.t.Error(why)
	}
}

// losesTheWayOfAnswers takes away what leads the box's answers: clients get none, status and doctor name it, repair puts it
// back, and the dry run of a repair says what would.
func (h host) losesTheWayOfAnswers(far func(string) string) {
	addr := boxes(h)[0].Address
	for _, c := range []struct {
		loses, says string
		lost        func() string
	}{
		{"ip rule del pref 22001 from " + addr, "lacks a routing rule for its answers: pref 22001 from " + addr + "/32 to 192.0.2.0/24 lookup 22001",
			func() string { return code(h.ClientCommand(h.t.Context(), asks("http://192.0.2.1:8080/")...)) }},
		{"ip route del default table 22002", "lacks a route for its answers: 0.0.0.0/0 via 192.0.2.2 dev eth1",
			func() string { return far("http://192.0.2.50/") }},
		{"ip rule del pref 22002", "lacks a routing rule for its answers: pref 22002 to 192.0.2.1/32",
			func() string {
				return h.run(append([]string{"boxrun", "exec", "both", "--"}, asks("http://192.0.2.1:8080/")...)...).Stdout
			}},
	} {
		h.sh("nsenter -n -t $(jq .pid /root/.apptainer/instances/app/*/root/both/both.json) " + c.loses)
		if got := c.lost(); got != "000" {
			h.t.Errorf("without what %q takes away: got %s, want no answer", c.loses, got)
		}
		h.tells([]string{"drifted", c.says}, "boxrun", "status", "both")
		h.finds(h.checks("both"), doctor.Fail, "LAN", c.says)
		h.tells([]string{"nsenter -t "}, "boxrun", "up", "--dry-run", "both")
		h.must("boxrun", "repair")
		if got := c.lost(); got != "200" {
			h.t.Errorf("after the repair: got %s, want 200", got)
		}
	}
}

// tracedOnTheLAN has packets die on either network, and wants trace to say why.
func (h host) tracedOnTheLAN() {
	h.hasEvent(h.traced(func() { _ = code(h.ClientCommand(h.t.Context(), asks("http://192.0.2.50:83/")...)) }, "both"), "NO_SOCKET", "192.0.2.50:83 tcp SYN", "nothing listens on 83/tcp in the box")
	h.hasEvent(h.traced(func() { _ = code(h.ClientCommand(h.t.Context(), asks("http://192.0.2.1:8083/")...)) }, "both"), "NO_SOCKET", ":83 tcp SYN", "nothing listens on 83/tcp in the box")
}

// What a dry run prints for such a box does what up and down do.
func TestDryRunOfABoxOnTheBridgeAndTheLAN(t *testing.T) {
	h := newHost(t)
	h.profile("both", both)
	h.must("boxrun", "up", "both")
	h.must("boxrun", "down", "both")
	inside := "nsenter -n -t $(jq .pid /root/.apptainer/instances/app/*/root/both/both.json) "
	shown := func() string {
		t.Helper()
		h.must("curl", "-sS", "-m", "5", "--retry", "10", "--retry-delay", "1", "--retry-all-errors", "-o", "/dev/null", "http://192.0.2.50/")
		h.reached("shown", h.places("http://192.0.2.50/", "http://192.0.2.1:8080/")[:1])
		return h.sh("ip -d -o link show lan-eth0 | sed 's/^[0-9]*: //'; ip route; iptables-save | grep -e '^-A BOXRUN' | sed 's/veth[0-9a-f]*/VETH/'; " +
			inside + "ip rule; " + inside + "ip -6 rule; " + inside + "ip route show table 22001; " + inside + "ip route show table 22002; " +
			inside + "sysctl net.ipv4.ip_forward net.ipv4.ping_group_range")
	}
	h.typedAsBoxrun("both", shown)
}

// A power cut and a reset, with the records of boxes and without, leave nothing of such a box.
func TestResetOfABoxOnTheBridgeAndTheLAN(t *testing.T) {
	h := newHost(t)
	h.profile("both", both)
	before := h.dump()
	places := h.places("http://192.0.2.50/", "http://192.0.2.1:8080/")
	h.must("boxrun", "up", "both")
	if err := h.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.must("boxrun", "up", "both")
	h.reached("after a power cut", places)
	for _, reset := range []string{"boxrun host reset --force", "rm -rf /run/boxrun/boxes; apptainer instance stop both; boxrun host reset --force",
		"boxrun host reset --dry-run | bash -e"} {
		h.must("boxrun", "up", "both")
		if got := h.must("boxrun", "host", "show"); !containsAll(got, []string{"macvlan device lan-eth0", "bridge sbr0"}) || strings.Contains(got, "in no record") {
			t.Errorf("with the box up: host show says\n%s", got)
		}
		h.sh(reset)
		h.same(before, append(stays(), `^/etc/boxrun/profiles`, touched, `^[0-9]+: eth0@`)...) // the reboot has made another wire
	}
}

// followsTheRouter has the DHCP client of an enabled box lose its router and get it back, by a lease each. The watch hears of
// both: answers beyond the router end and begin again, and status knows no drift.
func (h host) followsTheRouter(far func(string) string) {
	h.t.Helper()
	for _, c := range []struct{ option, code, route string }{
		{"--dhcp-option=3", "000", ""}, {"", "200", "default via 198.51.100.2 dev eth1"},
	} {
		h.lends("198.51.100.60", "198.51.100.60", c.option)
		h.must("boxrun", "exec", "both", "--", "networkctl", "renew", "eth1")
		if why := eventually(patience, func() string {
			table := h.must("boxrun", "exec", "both", "--", "ip", "route", "show", "default", "table", "22002")
			if got := far("http://198.51.100.60/"); got != c.code || strings.Contains(table, "default") != (c.route != "") || !strings.Contains(table, c.route) {
				return "beyond the router got " + got + ", by " + table
			}
			return ""
		}); why != "" {
			h.t.Errorf("with a lease by %q: %s", c.option, why)
		}
		h.tells([]string{"in place"}, "boxrun", "status", "both")
	}
}

// A DHCP client in the box asks on eth1: up waits for the lease, the router that the lease names leads answers beyond the LAN,
// the bridge stays the way out, and an enabled box is followed to another address.
func TestABoxOnTheBridgeAsksTheLANForItsAddress(t *testing.T) {
	h := bootHost(t, testhost.NewLending)
	h.sh("printf '[Match]\nName=eth1\n[Network]\nDHCP=ipv4\n[DHCPv4]\nClientIdentifier=mac\n' > /srv/lan.network; " +
		"printf '[Unit]\nWants=systemd-networkd.service\n' > /srv/networkd.conf")
	h.lends("198.51.100.60", "198.51.100.60")
	h.sh(strings.NewReplacer("$1", "far", "$2", "lender").Replace(beyondScript))
	h.profile("both", strings.Replace(leased, "mode = \"lan\"", `ports = ["8080:80"]`, 1))
	before := h.dump()
	in := func(n string) func(string) string {
		return func(url string) string {
			return h.run(append([]string{"ip", "netns", "exec", n}, asks(url)...)...).Stdout
		}
	}
	at := func(onLAN string) []place {
		const published = "http://198.51.100.1:8080/"
		p := h.places(onLAN, "http://192.0.2.1:8080/", published)[1:]
		return append(p, place{"the LAN", in("lender"), []string{onLAN, published}}, place{"beyond the router", in("far"), []string{onLAN}})
	}
	r := h.run("boxrun", "up", "both")
	if r.Code != 0 || !strings.Contains(r.Stderr, " and at 198.51.100.60 on the LAN of lan0") {
		t.Fatalf("up: %v", r)
	}
	routed := func() { // up waits a second for the route by the router; of what is later than that, a repair hears
		t.Helper()
		if why := eventually(patience, func() string {
			if h.must("boxrun", "exec", "both", "--", "ip", "route", "show", "default", "dev", "eth1") == "" {
				return "the box has no route by the router of its lease"
			}
			return ""
		}); why != "" {
			t.Error(why)
		}
		h.must("boxrun", "repair")
	}
	routed()
	h.reached("after up", at("http://198.51.100.60/"))
	h.must("boxrun", "exec", "both", "--", "ping", "-c", "1", "-W", "5", testhost.ClientAddr)
	h.must("boxrun", "restart", "both")
	routed()
	h.reached("after a restart", at("http://198.51.100.60/"))
	h.tells([]string{"in place"}, "boxrun", "status", "both")

	h.must("boxrun", "enable", "both")
	h.followsTheRouter(in("far"))
	h.lends("198.51.100.100", "198.51.100.100")
	h.must("boxrun", "exec", "both", "--", "networkctl", "reconfigure", "eth1")
	if why := eventually(patience, func() string {
		return strings.TrimPrefix(in("far")("http://198.51.100.100/"), "200")
	}); why != "" {
		t.Errorf("the way of answers has not followed the box: %s\n%s", why, h.must("boxrun", "status", "both"))
	}
	h.reached("at another address", at("http://198.51.100.100/"))
	if got := boxes(h)[0]; got.Second != "198.51.100.100" {
		t.Errorf("ps says %q", got.Second)
	}
	h.must("boxrun", "disable", "both")
	h.must("boxrun", "down", "both")
	h.sh("systemctl stop lender")
	h.same(before, append(stays(), touched, "lender")...)
	h.fails(5, []string{"no DHCP client in the box has got an address of the LAN of lan0", "ip addr show eth1"}, "boxrun", "up", "--wait-timeout", "2s", "both")
	h.must("boxrun", "down", "both")
}
