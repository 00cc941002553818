package e2e

import (
	"strings"
	"testing"

	"boxrun/e2e/testhost"
)

// dualProfile is a box with both families.
func dualProfile(ports string) string {
	return "image = \"/srv/web\"\n[network]\nsubnet6 = \"auto\"\nports = [" + ports + "]\n[ready]\ntcp = [80]\n"
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
	h.profile("dual", dualProfile(`"8080:80", "0.0.0.0:8081:80", "[2001:db8:7::1]:8082:80"`))
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
	reach("after up")
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
	h.tells([]string{", fd", "8080->80/tcp on ALL addresses of the host, IPv4 and IPv6",
		"0.0.0.0:8081->80/tcp on ALL IPv4 addresses", "[2001:db8:7::1]:8082->80/tcp on that address"}, "boxrun", "status", "dual")
	h.brokenSix()
	reach("after repairs")
	h.must("boxrun", "down", "dual", "other")
	h.same(before, append(stays(), `^/etc/boxrun/profiles`)...)
	h.withoutSix()
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
		{"ip -6 addr flush dev sbr0 scope global", "sbr0 lacks the address"},
		{"sysctl -qw net.ipv6.conf.sbr0.accept_ra=1", "accept_ra"},
		{"boxrun exec dual -- ip -6 addr flush dev eth0 scope global", "eth0 lacks the address"},
		{"boxrun exec dual -- ip -6 neigh flush dev eth0 nud permanent", "eth0 does not know the MAC"},
		{"boxrun exec dual -- ip -6 route del default", "eth0 lacks the default route"},
	} {
		h.sh(b.script)
		if r := h.run("boxrun", "status", "dual"); !strings.Contains(r.Stdout+r.Stderr, b.said) {
			h.t.Errorf("%s: status says %v, want %s", b.script, r, b.said)
		}
		if r := h.run("boxrun", "doctor", "dual"); r.Code == 0 || !strings.Contains(r.Stdout, b.said) {
			h.t.Errorf("%s: doctor says %v, want %s", b.script, r, b.said)
		}
		h.must("boxrun", "repair")
		if r := h.run("boxrun", "status", "dual"); !strings.Contains(r.Stdout, "in place") {
			h.t.Errorf("%s: after the repair status says %v", b.script, r)
		}
	}
}
