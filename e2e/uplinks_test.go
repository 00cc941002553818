package e2e

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// uplinksScript gives the host $1 another uplink, ext1 198.51.100.1, beside eth0 192.0.2.1 to the client $2. The routers
// of both, the client and $3, let out only their own sources. A client beyond both routers is $4, 203.0.113.2.
const uplinksScript = `
	for n in "$3" "$4"; do ip netns add $n; ip -n $n link set lo up; done
	link() { ip -n $1 link add $2 type veth peer name $4 netns $3
		ip -n $1 addr add $5/24 dev $2; ip -n $1 link set $2 up; ip -n $3 addr add $6/24 dev $4; ip -n $3 link set $4 up; }
	link $1 ext1 $3 eth0 198.51.100.1 198.51.100.254
	link $2 far0 $4 eth0 203.0.113.1 203.0.113.2
	link $3 far0 $4 eth1 203.0.114.1 203.0.114.2
	ip -n $4 route add 192.0.2.0/24 via 203.0.113.1; ip -n $4 route add 198.51.100.0/24 via 203.0.114.1
	ip -n $3 route add 203.0.113.0/24 via 203.0.114.2
	for n in $2 $3 $4; do ip netns exec $n bash -c 'echo 1 > /proc/sys/net/ipv4/ip_forward
		for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $f; done'; done
	ip netns exec $2 iptables -A FORWARD -i eth0 ! -s 192.0.2.0/24 -j DROP
	ip netns exec $3 iptables -A FORWARD -i eth0 ! -s 198.51.100.0/24 -j DROP`

// addUplink does that, and returns what asks from the client beyond: the result of curl, as "200" or "000".
func (h host) addUplink() (far func(url string) string) {
	h.t.Helper()
	router, beyond := h.Name()+"-r", h.Name()+"-f"
	h.t.Cleanup(func() {
		for _, n := range []string{router, beyond} {
			_ = exec.Command("ip", "netns", "del", n).Run()
		}
	})
	if out, err := exec.Command("bash", "-ec", uplinksScript, "uplinks", h.Name(), h.Name()+"-c", router, beyond).CombinedOutput(); err != nil {
		h.t.Fatalf("%v: %s", err, out)
	}
	return func(url string) string {
		out, _ := exec.Command("ip", "netns", "exec", beyond, "curl", "-s", "-m", "3", "-o", "/dev/null", "-w", "%{http_code}", url).Output()
		return string(out)
	}
}

// answers wants both addresses of the host to answer a client beyond their routers, and the host itself.
func (h host) answers(when string, far func(string) string) {
	h.t.Helper()
	for _, url := range []string{"http://192.0.2.1/", "http://198.51.100.1/"} {
		if got := far(url); got != "200" {
			h.t.Errorf("%s, from beyond the routers %s: got %s, want 200", when, url, got)
		}
		if got := h.sh("curl -s -m 3 -o /dev/null -w '%{http_code}' " + url + " || true"); got != "200" {
			h.t.Errorf("%s, from the host %s: got %s, want 200", when, url, got)
		}
	}
}

// sourceRouting is what Amazon Linux sets for a second interface, on a host as strict about reverse paths as Red Hat's.
const sourceRouting = `sysctl -qw net.ipv4.conf.ext1.rp_filter=1
	ip route add default via 198.51.100.254 dev ext1 table 100; ip rule add from 198.51.100.1 lookup 100`

func TestTwoUplinks(t *testing.T) {
	h := newHost(t)
	far := h.addUplink()
	h.sh(sourceRouting)
	before := h.dump()
	plan := h.must("boxrun", "up", "--dry-run", "web")
	const rule = "ip rule add pref 32764 iif sbr0 fwmark 0x1000000/0x7f000000 lookup 100 protocol kernel"
	if !strings.Contains(plan, rule) {
		t.Errorf("the dry run does not have %q:\n%s", rule, plan)
	}
	h.must("boxrun", "up", "web")
	h.answers("up", far)
	if got := h.must("boxrun", "status", "web"); strings.Contains(got, "drifted") {
		t.Errorf("status says\n%s", got)
	}

	h.sh("ip rule del pref 32764")
	if got := far("http://198.51.100.1/"); got != "000" {
		t.Errorf("without the rule: got %s, want no answer", got)
	}
	if got := h.must("boxrun", "status", "web"); !containsAll(got, []string{"drifted", "pref 32764"}) {
		t.Errorf("without the rule, status says\n%s", got)
	}
	if got := h.run("boxrun", "doctor", "web").Stdout; !containsAll(got, []string{"answers", "198.51.100.1, it answers by eth0, and the host itself by ext1"}) {
		t.Errorf("without the rule, doctor says\n%s", got)
	}
	h.must("boxrun", "repair")
	h.answers("repaired", far)
	h.must("boxrun", "doctor", "web")

	h.sh("ip rule del from 198.51.100.1 lookup 100; ip rule add from 198.51.100.1 lookup 101; ip route add default via 198.51.100.254 dev ext1 table 101")
	if got := h.must("boxrun", "status", "web"); !containsAll(got, []string{"drifted", "lookup 101"}) {
		t.Errorf("with another table, status says\n%s", got)
	}
	h.must("boxrun", "up", "web")
	h.answers("with another table", far) // its rule came before boxrun's, as rules without a priority do
	h.must("boxrun", "down", "web")
	h.sh("ip rule del from 198.51.100.1 lookup 101; ip route del default table 101; ip rule add from 198.51.100.1 lookup 100")
	h.same(before, slices.Concat(stays(), []string{`^net\.ipv4\.conf\.ext1\.rp_filter = `})...)
	t.Run("IPv6", func(t *testing.T) { h.in(t).twoUplinks6(far) })
}

// uplinks6Script gives the same hosts addresses of IPv6, and the host $1 the same two uplinks: eth0 2001:db8:7::1 and ext1
// 2001:db8:8::1.
const uplinks6Script = `
	at() { ip -n $1 addr add $3/64 dev $2 nodad; }
	at $1 eth0 2001:db8:7::1; at $1 ext1 2001:db8:8::1; at $2 eth0 2001:db8:7::2; at $2 far0 2001:db8:9::1
	at $3 eth0 2001:db8:8::fe; at $3 far0 2001:db8:a::1; at $4 eth0 2001:db8:9::2; at $4 eth1 2001:db8:a::2
	for n in $2 $3; do ip netns exec $n sysctl -qw net.ipv6.conf.all.forwarding=1; done
	ip -n $4 route add 2001:db8:7::/64 via 2001:db8:9::1; ip -n $4 route add 2001:db8:8::/64 via 2001:db8:a::1
	ip -n $3 route add 2001:db8:9::/64 via 2001:db8:a::2
	ip -n $1 route add default via 2001:db8:7::2; ip -n $1 route add default via 2001:db8:8::fe table 100
	ip -n $1 -6 rule add from 2001:db8:8::1 lookup 100
	ip netns exec $2 ip6tables -A FORWARD -i eth0 ! -s 2001:db8:7::/64 -j DROP
	ip netns exec $3 ip6tables -A FORWARD -i eth0 ! -s 2001:db8:8::/64 -j DROP`

// packetTooBig has a box send more than a router on the way hands on, and wants the router's word to reach the box: nobody
// else cuts packets of IPv6.
func (h host) packetTooBig() {
	h.t.Helper()
	if out, err := exec.Command("ip", "-n", h.Name()+"-r", "link", "set", "far0", "mtu", "1400").CombinedOutput(); err != nil {
		h.t.Fatalf("%v: %s", err, out)
	}
	h.sh("ip -6 route add 2001:db8:a::/64 via 2001:db8:8::fe; ip6tables -P FORWARD DROP")
	if r := h.run("boxrun", "exec", "dual", "--", "ping", "-6", "-c", "2", "-i", "0.2", "-W", "1", "-s", "1400", "2001:db8:a::2"); !strings.Contains(r.Stdout, "Packet too big: mtu=1400") {
		h.t.Errorf("a packet of 1,448 bytes on a path of 1,400: %v", r)
	}
	h.sh("ip6tables -P FORWARD ACCEPT; ip -6 route del 2001:db8:a::/64")
}

// twoUplinks6 has a box of both families answer beyond both routers, by IPv6.
func (h host) twoUplinks6(far func(string) string) {
	h.t.Helper()
	if out, err := exec.Command("bash", "-ec", uplinks6Script, "uplinks", h.Name(), h.Name()+"-c", h.Name()+"-r", h.Name()+"-f").CombinedOutput(); err != nil {
		h.t.Fatalf("%v: %s", err, out)
	}
	const second = "http://[2001:db8:8::1]:8080/"
	answer := func(when, url, want string) {
		h.t.Helper()
		if got := far(url); got != want {
			h.t.Errorf("%s, from beyond the routers %s: got %s, want %s", when, url, got, want)
		}
	}
	before := h.dump()
	h.profile("dual", dualProfile(`"8080:80"`))
	plan := h.must("boxrun", "up", "--dry-run", "dual")
	if rule := "ip -6 rule add pref 32764 iif sbr0 fwmark 0x1000000/0x7f000000 lookup 100 protocol kernel"; !strings.Contains(plan, rule) {
		h.t.Errorf("the dry run does not have %q:\n%s", rule, plan)
	}
	h.must("boxrun", "up", "dual")
	answer("up", sixURL, "200")
	answer("up", second, "200")
	if got := h.must("boxrun", "status", "dual"); strings.Contains(got, "drifted") {
		h.t.Errorf("status says\n%s", got)
	}
	h.sh("ip -6 rule del pref 32764")
	answer("without the rule", second, "000")
	if got := h.must("boxrun", "status", "dual"); !containsAll(got, []string{"drifted", "pref 32764"}) {
		h.t.Errorf("without the rule, status says\n%s", got)
	}
	if got := h.run("boxrun", "doctor", "dual").Stdout; !containsAll(got, []string{"answers", "2001:db8:8::1, it answers by eth0, and the host itself by ext1"}) {
		h.t.Errorf("without the rule, doctor says\n%s", got)
	}
	h.must("boxrun", "repair")
	answer("repaired", second, "200")
	h.packetTooBig()
	h.sh("ip -6 rule del from 2001:db8:8::1 lookup 100; ip -6 route del default via 2001:db8:8::fe table 100; ip -6 route add default via 2001:db8:8::fe metric 2000")
	h.must("boxrun", "up", "dual")
	answer("with two default routes", second, "200") // by a table of boxrun's own
	h.must("boxrun", "down", "dual")
	h.sh("ip -6 route del default via 2001:db8:8::fe metric 2000; ip -6 rule add from 2001:db8:8::1 lookup 100; ip -6 route add default via 2001:db8:8::fe dev ext1 table 100")
	h.same(before, append(stays(), `^/etc/boxrun/profiles`)...)
}

// Nothing on the way of answers is boxrun's where the host has a single way out, and all of it goes with a reset.
func TestUplinksComeAndGo(t *testing.T) {
	h := newHost(t)
	far := h.addUplink()
	ours := func() string {
		return h.sh("ip rule | grep -v 'lookup \\(local\\|main\\|default\\|100\\)$' || true; ip rule | grep -c . ; " +
			"ip route show table all | grep 'table 1022' || true; iptables-save -t mangle | grep MARK || true")
	}
	h.must("boxrun", "up", "web")
	plain := ours()
	if plain != "3\n" {
		t.Errorf("with a single way out there is %s", plain)
	}
	h.must("boxrun", "enable", "web") // the watch follows
	h.sh("ip route add default via 198.51.100.254 dev ext1 metric 200")
	if late := eventually(patience/4, func() string {
		if got := far("http://198.51.100.1/"); got != "200" {
			return got
		}
		return ""
	}); late != "" {
		t.Errorf("with a second default route: got %s, want 200", late)
	}
	h.answers("with a second default route", far)
	h.sh("ip route del default via 198.51.100.254 dev ext1 metric 200")
	if late := eventually(patience/4, func() string {
		if got := ours(); got != plain {
			return got
		}
		return ""
	}); late != "" {
		t.Errorf("the second default route gone: %s", late)
	}
	h.must("boxrun", "disable", "web")
	h.sh("ip route add default via 198.51.100.254 dev ext1 metric 200")
	h.must("boxrun", "repair")
	h.must("boxrun", "host", "reset", "--force")
	h.sh("ip route del default via 198.51.100.254 dev ext1 metric 200")
	if got := ours(); got != plain {
		t.Errorf("after a reset there is %s", got)
	}
}
