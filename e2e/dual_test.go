package e2e

import (
	"slices"
	"strings"
	"testing"

	"boxrun/e2e/testhost"
)

// dualProfile is a box with both families, as boxes are by default.
func dualProfile(ports string) string {
	return "image = \"/srv/web\"\n[network]\nports = [" + ports + "]\n[ready]\ntcp = [80]\n"
}

// six gives the host and the client IPv6 addresses on the wire between them.
func (h host) six() {
	h.t.Helper()
	h.sh("ip -6 addr add 2001:db8:7::1/64 dev eth0 nodad; ip -6 route add default via 2001:db8:7::2")
	h.client("ip", "addr", "add", "2001:db8:7::2/64", "dev", "eth0", "nodad")
}

const (
	sixURL  = "http://[2001:db8:7::1]:8080/"
	sixPage = "nginx in a box"
)

// Both families reach a box at once, a box reaches what has IPv6 alone, and its neighbours by name; what boxrun puts on
// the host for it is mended, and is gone after the last down. Docker's case of localhost: a client that tries ::1 first is
// refused there at once, and served at 127.0.0.1.
func TestBothFamilies(t *testing.T) {
	h := newHost(t)
	h.six()
	before := h.dump()
	h.profile("dual", dualProfile(`"8080:80", "0.0.0.0:8081:80", "[2001:db8:7::1]:8082:80", "8083:81"`))
	h.profile("other", dualProfile(""))
	h.must("boxrun", "up", "dual", "other")
	reach := func(when string) {
		t.Helper()
		for _, url := range []string{sixURL, "http://" + testhost.HostAddr + ":8080/"} {
			if got := h.client("curl", "-gsS", "-m", "5", url); !strings.Contains(got, sixPage) {
				t.Errorf("%s: the client got %q from %s", when, got, url)
			}
		}
		for _, argv := range [][]string{
			{"curl", "-gsS", "-m", "3", sixURL},
			{"curl", "-gsS", "-m", "0.9", "http://localhost:8080/"},
			{"boxrun", "exec", "dual", "--", "curl", "-gsS", "-m", "5", sixURL},
			{"boxrun", "exec", "other", "--", "curl", "-gsS", "-m", "5", sixURL},
			{"boxrun", "exec", "other", "--", "curl", "-6", "-gsS", "-m", "5", "http://dual/"},
		} {
			if got := h.must(argv...); !strings.Contains(got, sixPage) {
				t.Errorf("%s: %s got %q", when, strings.Join(argv, " "), got)
			}
		}
		h.must("boxrun", "exec", "dual", "--", "ping", "-6", "-c", "1", "-W", "3", "2001:db8:7::2")
	}
	if got := h.sh("ip -6 addr show dev sbr0 tentative; ip -6 neigh flush dev sbr0"); got != "" {
		t.Errorf("after up the host cannot use an address of the bridge yet: %s", got)
	}
	h.client("curl", "-gsS", "-m", "0.9", "-o", "/dev/null", sixURL)
	reach("after up")
	h.must("boxrun", "restart", "dual") // the same addresses at another MAC, which host and neighbours have to learn
	reach("after a restart")
	if r := h.run("curl", "-gsS", "-m", "5", "http://[::1]:8080/"); r.Code != 7 {
		t.Errorf("[::1] on the host: %v, want it refused at once", r)
	}
	if got := h.must("boxrun", "exec", "dual", "--", "cat", "/proc/sys/net/ipv6/conf/eth0/accept_ra"); got != "0\n" {
		t.Errorf("a box believes advertisements of its neighbours: accept_ra is %s", got)
	}
	for url, want := range map[string]int{
		"http://192.0.2.1:8081/": 0, "http://[2001:db8:7::1]:8081/": 7, "http://192.0.2.1:8082/": 7, "http://[2001:db8:7::1]:8082/": 0,
	} {
		r, err := h.Client(t.Context(), "curl", "-gsS", "-o", "/dev/null", "-m", "5", url)
		if r.Code != want || err != nil {
			t.Errorf("%s: %v (%v), want exit code %d", url, r, err, want)
		}
	}
	h.tells([]string{", fd", "8080->80/tcp on ALL addresses of the host, for anyone",
		"0.0.0.0:8081->80/tcp on ALL IPv4 addresses", "[2001:db8:7::1]:8082->80/tcp on that address"}, "boxrun", "status", "dual")
	t.Run("trace", func(t *testing.T) { h.in(t).tracedSix() })
	t.Run("rules of others", func(t *testing.T) { h.in(t).othersSix() })
	h.brokenSix()
	reach("after repairs")
	t.Run("allow_from", func(t *testing.T) { h.in(t).guardedSix() })
	h.must("boxrun", "down", "dual", "other")
	h.same(before, append(stays(), `^/etc/boxrun/profiles`)...)
	h.withoutSix()
	h.sh("sysctl -qw net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0")
	t.Run("a bridge of IPv4 alone", func(t *testing.T) { h.in(t).besideFour() })
	t.Run("no ip6tables", func(t *testing.T) { h.in(t).lackingSix() })
}

// guardedSix publishes ports for clients of one family alone: nobody of the other family gets an answer.
func (h host) guardedSix() {
	h.t.Helper()
	const four, six = "http://" + testhost.HostAddr + ":", "http://[2001:db8:7::1]:"
	for _, c := range []struct{ from, port, open, shut string }{
		{"192.0.2.0/24", "8091", four, six}, {"2001:db8:7::/64", "8092", six, four},
	} {
		name := "guarded" + c.port
		h.profile(name, "image = \"builtin:hello\"\n[network]\nports = [\""+c.port+":80\"]\nallow_from = [\""+c.from+"\"]\n")
		h.tells([]string{"on ALL addresses of the host, for "}, "boxrun", "up", name)
		for url, want := range map[string]int{c.open: 0, c.shut: 28} {
			r, err := h.Client(h.t.Context(), "curl", "-gsS", "-o", "/dev/null", "-m", "1", url+c.port+"/")
			if r.Code != want || err != nil {
				h.t.Errorf("allow_from %s: %s%s: %v (%v), want exit code %d", c.from, url, c.port, r, err, want)
			}
		}
	}
	h.must("boxrun", "down", "guarded8091", "guarded8092")
	h.sh("rm /etc/boxrun/profiles/guarded*")
}

// besideFour starts a box on a bridge whose box has IPv4 alone, as boxes of older boxruns have: the two share one network.
func (h host) besideFour() {
	h.t.Helper()
	h.profile("four", "image = \"builtin:hello\"\n[network]\nsubnet6 = \"\"\n")
	h.must("boxrun", "up", "four")
	h.tells([]string{"hello: has IPv4 alone, as box four on bridge sbr0 has\n"}, "boxrun", "up", "hello")
	h.tells([]string{"in place"}, "boxrun", "status", "four")
	if got := h.sh("ip6tables-save; boxrun repair 2>&1"); strings.Contains(got, "BOXRUN") || !strings.Contains(got, "in place") {
		h.t.Errorf("beside a box of IPv4 alone there are rules of IPv6, or drift:\n%s", got)
	}
	h.profile("named", "image = \"builtin:hello\"\n[network]\nports = [\"[::]:8093:80\"]\n")
	h.fails(1, []string{`network.subnet6: auto, but box "`, "on bridge sbr0"}, "boxrun", "up", "named")
	h.must("boxrun", "down", "four", "hello")
	if r := h.run("boxrun", "up", "named"); r.Code != 0 || strings.Contains(r.Stderr, "warning") ||
		!strings.Contains(r.Stderr, "[::]:8093->80/tcp on ALL IPv6 addresses of the host") {
		h.t.Errorf("up of a box published on all addresses of IPv6: %v", r)
	}
	h.must("boxrun", "down", "named")
}

// lackingSix takes ip6tables from the host: a box has IPv4 alone, of which one line tells, unless its profile names IPv6.
func (h host) lackingSix() {
	h.t.Helper()
	before := h.dump()
	const hidden = "/usr/sbin/ip6tables-restore"
	h.sh("mv " + hidden + " /root/hidden")
	r := h.run("boxrun", "up", "hello")
	if r.Code != 0 || strings.Count(r.Stderr, "IPv4 alone") != 1 || !strings.Contains(r.Stderr, "ALL IPv4 addresses") ||
		!strings.Contains(r.Stderr, "hello: has IPv4 alone, the host cannot give boxes IPv6: no ip6tables-restore in ") {
		h.t.Errorf("without ip6tables, up says %v", r)
	}
	h.tells([]string{"in place"}, "boxrun", "status", "hello")
	h.fails(1, []string{"named.toml: network.subnet6: the host cannot give boxes IPv6: no ip6tables-restore in ", "install ip6tables"},
		"boxrun", "up", "named")
	h.must("boxrun", "down", "hello")
	h.sh("mv /root/hidden " + hidden)
	h.same(before, stays()...)

	// The kernel refuses the table nat of IPv6, as a kernel without does: the table is another program's own.
	h.sh("nft delete table ip6 nat; systemd-run -q --unit=owner sh -c \"(echo 'table ip6 nat { flags owner; }'; sleep 60) | nft -i\"; " +
		"for i in $(seq 500); do nft list table ip6 nat | grep -q owner && break; sleep 0.01; done")
	refused := h.dump()
	h.tells([]string{"hello: has IPv4 alone, the host cannot give boxes IPv6: ", "hello: started at"}, "boxrun", "up", "hello")
	h.tells([]string{"in place"}, "boxrun", "status", "hello")
	h.must("boxrun", "down", "hello")
	h.fails(1, []string{"ip6tables-restore"}, "boxrun", "up", "named")
	h.same(refused, stays()...)
	h.sh("systemctl stop owner")
}

// tracedSix has packets of IPv6 die in several ways, and wants trace to say why.
func (h host) tracedSix() {
	h.t.Helper()
	const port, closed = "[2001:db8:7::1]:8080", "[2001:db8:7::1]:8083"
	for _, c := range []struct {
		name, change, undo string
		args               []string
		reason             string
		says               []string
	}{
		{"a rule of others", "ip6tables -I FORWARD -p tcp --dport 80 -j DROP", "ip6tables -D FORWARD -p tcp --dport 80 -j DROP", []string{"dual"},
			"NETFILTER_DROP", []string{"[2001:db8:7::2]:", "]:80 tcp SYN", "dropped by: ip6tables -t filter -A FORWARD -p tcp --dport 80 -j DROP", "fix: boxrun doctor --fix"}},
		{"a rule before the translation", "ip6tables -t raw -I PREROUTING -p tcp --dport 8080 -j DROP", "true", []string{"dual", "8080"},
			"NETFILTER_DROP", []string{"> " + port + " tcp SYN", "fix: ip6tables -t raw -D PREROUTING -p tcp --dport 8080 -j DROP"}},
		{"an nftables table", `nft 'table ip6 site { chain f { type filter hook forward priority 5; tcp dport 80 drop; }; }'`,
			"nft delete table ip6 site", []string{"dual"}, "NETFILTER_DROP", []string{"nft rule ip6 site f tcp dport 80 drop", "fix: add to that chain"}},
	} {
		h.sh(c.change)
		events := h.traced(func() { h.asked(port, "0.5") }, c.args...)
		h.hasEvent(events, c.reason, c.says...)
		if fix := dropsOf(events); len(fix) > 0 && c.undo == "true" {
			c.undo = fix[0].Fix
		}
		h.sh(c.undo)
	}
	h.hasEvent(h.traced(func() { h.asked(closed, "1") }, "dual"), "NO_SOCKET", "]:81 tcp SYN", "nothing listens on 81/tcp in the box")
	h.sh("tc qdisc add dev eth0 root tbf rate 8kbit burst 60 limit 60") // less than a packet's size
	events := h.traced(func() {
		h.run("boxrun", "exec", "dual", "--", "timeout", "0.5", "bash", "-c", "echo > /dev/tcp/2001:db8:7::2/6009")
	}, "dual")
	h.sh("tc qdisc del dev eth0 root")
	h.hasEvent(events, "QDISC_DROP", "[2001:db8:7::1]:", "> [2001:db8:7::2]:6009 tcp SYN", "traffic control")
	out := h.must("boxrun", "trace", "--probe", "dual", "8080")
	if strings.Count(out, "probe: the connection opened\n") != 2 || !strings.Contains(out, "> "+port+" tcp\n") || strings.Contains(out, "died") {
		h.t.Errorf("trace --probe says\n%s\nwant a connection opened in each family", out)
	}
}

// othersSix has rules of others in the way of IPv6 alone: doctor and a restart name each, and a start is refused where a
// rule has the port already.
func (h host) othersSix() {
	h.t.Helper()
	for _, c := range []struct{ change, undo, doctor, up string }{
		{`nft 'table ip6 site { chain f { type filter hook forward priority 5; tcp dport 80 drop; }; }'`, "nft delete table ip6 site",
			"8080/tcp IPv6 forward", "what clients send to port 8080/tcp is dropped by nft rule ip6 site f tcp dport 80 drop"},
		{`nft 'table ip6 site { chain p { type nat hook prerouting priority -150; tcp dport 8080 redirect to :9; }; }'`, "nft delete table ip6 site",
			"8080/tcp IPv6 dnat", "what clients send to port 8080/tcp goes elsewhere, by nft rule ip6 site p tcp dport 8080 redirect to :9"},
		{"ip6tables -t raw -A PREROUTING -p tcp --dport 8080 -j NOTRACK", "ip6tables -t raw -D PREROUTING -p tcp --dport 8080 -j NOTRACK",
			"8080/tcp IPv6 dnat", "connections to port 8080/tcp are not translated, by ip6tables -t raw -A PREROUTING -p tcp --dport 8080 -j "},
	} {
		h.sh(c.change)
		if r := h.run("boxrun", "doctor", "dual"); r.Code != 1 || !containsLine(r.Stdout, "FAIL", c.doctor) {
			h.t.Errorf("%s: doctor says %v, want %q to fail", c.change, r, c.doctor)
		}
		if r := h.run("boxrun", "up", "--replace", "dual"); r.Code != 0 || !strings.Contains(r.Stderr, c.up) {
			h.t.Errorf("%s: up says %v, want %q", c.change, r, c.up)
		}
		h.sh(c.undo)
	}
	h.must("boxrun", "down", "dual")
	h.sh("ip6tables -t nat -A PREROUTING -p tcp --dport 8080 -j REDIRECT --to-ports 9")
	h.fails(1, []string{"host port 8080/tcp is taken by a REDIRECT rule: -A PREROUTING -p tcp --dport 8080"}, "boxrun", "up", "dual")
	h.sh("ip6tables -t nat -D PREROUTING -p tcp --dport 8080 -j REDIRECT --to-ports 9")
	h.must("boxrun", "up", "dual")
}

// containsLine reports whether a line of text has all words.
func containsLine(text string, words ...string) bool {
	return slices.ContainsFunc(strings.Split(text, "\n"), func(line string) bool { return containsAll(line, words) })
}

// withoutSix has a box with both families on a host whose IPv6 is off: it is a box of IPv4, and nothing of IPv6 is tried.
func (h host) withoutSix() {
	h.t.Helper()
	h.sh("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1")
	before := h.dump()
	h.must("boxrun", "up", "dual")
	if got := h.client("curl", "-sS", "-m", "5", "http://"+testhost.HostAddr+":8080/"); !strings.Contains(got, sixPage) {
		h.t.Errorf("without IPv6 on the host, the client got %q", got)
	}
	if got := h.sh("ip6tables-save; boxrun repair 2>&1"); strings.Contains(got, "BOXRUN") || !strings.Contains(got, "in place") {
		h.t.Errorf("without IPv6 on the host there are rules of IPv6, or drift:\n%s", got)
	}
	h.must("boxrun", "down", "dual")
	h.same(before, stays()...)
}

// brokenSix breaks what a box needs for IPv6, each once; status names it, and repair mends it.
func (h host) brokenSix() {
	h.t.Helper()
	for _, b := range []struct{ script, said string }{
		{"ip6tables -t nat -F BOXRUN-DN-dual", "BOXRUN-DN-dual"},
		{"ip6tables -D FORWARD 1", "BOXRUN-FWD"},
		{"ip -6 addr flush dev sbr0; ip -6 neigh flush dev sbr0", "sbr0 lacks the address"},
		{"sysctl -qw net.ipv6.conf.sbr0.accept_ra=1", "accept_ra"},
		{"boxrun exec dual -- ip -6 addr flush dev eth0 scope global", "eth0 lacks the address"},
		{"boxrun exec dual -- ip -6 neigh flush dev eth0 nud permanent", "eth0 does not know the MAC"},
		{"boxrun exec dual -- ip -6 route del default", "eth0 lacks the default route"},
		{"cp /etc/resolv.conf /root/resolv.conf; echo nameserver 2001:db8:7::2 > /etc/resolv.conf", "name servers"},
	} {
		h.sh(b.script)
		if r := h.run("boxrun", "status", "dual"); !strings.Contains(r.Stdout+r.Stderr, b.said) {
			h.t.Errorf("%s: status says %v, want %s", b.script, r, b.said)
		}
		if r := h.run("boxrun", "doctor", "dual"); r.Code == 0 || !strings.Contains(r.Stdout, b.said) {
			h.t.Errorf("%s: doctor says %v, want %s", b.script, r, b.said)
		}
		h.must("boxrun", "repair")
		h.client("curl", "-gsS", "-m", "5", "-o", "/dev/null", sixURL)
		if r := h.run("boxrun", "status", "dual"); !strings.Contains(r.Stdout, "in place") {
			h.t.Errorf("%s: after the repair status says %v", b.script, r)
		}
	}
	if got := h.must("boxrun", "exec", "dual", "--", "cat", "/etc/resolv.conf"); !strings.Contains(got, "nameserver 2001:db8:7::2\n") {
		h.t.Errorf("the box asks %s, want the host's server of IPv6", got)
	}
	h.sh("cat /root/resolv.conf > /etc/resolv.conf; rm /root/resolv.conf; boxrun repair")
}
