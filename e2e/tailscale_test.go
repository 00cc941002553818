package e2e

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"boxrun/e2e/testhost"
	"boxrun/netsetup/dump"

	"github.com/vishvananda/netns"
)

// tailnet is Tailscale itself on a host, and on a peer beyond the client, which is an exit node. Tailscale's own test server on
// the client is the control server.
type tailnet struct {
	host
	peer string // the network of the peer
}

// tailnetScript makes the network $2 of the peer behind the client $1, and an address that only the peer can reach. The host $3
// has IPv6.
const tailnetScript = `
	ip netns add $2; ip -n $2 link set lo up
	ip -n $1 link add far0 type veth peer name eth0 netns $2
	for end in "$1 far0 1" "$2 eth0 2"; do
		set -- $1 $2 $3 $end
		ip -n $4 addr add 203.0.113.$6/24 dev $5; ip -n $4 addr add 2001:db8:9::$6/64 dev $5 nodad; ip -n $4 link set $5 up
		ip netns exec $4 sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
	done
	ip -n $2 route add default via 203.0.113.1; ip -n $2 route add default via 2001:db8:9::1
	ip -n $2 addr add 198.51.100.9/32 dev lo; ip -n $2 addr add 2001:db8:99::9/128 dev lo
	ip -n $3 addr add 2001:db8:7::1/64 dev eth0 nodad; ip -n $1 addr add 2001:db8:7::2/64 dev eth0 nodad
	ip -n $3 route add default via 2001:db8:7::2`

// tailscaleUnit is Tailscale's own unit, in short.
const tailscaleUnit = `[Service]
Type=notify
ExecStart=/usr/sbin/tailscaled --state=/var/lib/tailscale/tailscaled.state --socket=/run/tailscale/tailscaled.sock --port=41641
ExecStopPost=/usr/sbin/tailscaled --cleanup
Restart=on-failure
RuntimeDirectory=tailscale
StateDirectory=tailscale
`

// peerTailscale is the command line of the peer's tailscale; DIR is for its state.
func peerTailscale(bin, dir string, words ...string) []string {
	return append([]string{filepath.Join(bin, "tailscale"), "--socket", filepath.Join(dir, "sock")}, words...)
}

// joinTailnet makes a tailnet of a host and a peer, and has the host join.
func (h host) joinTailnet() tailnet {
	h.t.Helper()
	bin, err := testhost.Tailnet(h.t.Context(), func(step string) { h.t.Log(step) })
	if err != nil {
		h.t.Fatal(err)
	}
	n := tailnet{h, h.Name() + "-p"}
	h.t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", n.peer).Run() })
	if out, err := exec.Command("bash", "-ec", tailnetScript, "tailnet", h.Name()+"-c", n.peer, h.Name()).CombinedOutput(); err != nil {
		h.t.Fatalf("%v: %s", err, out)
	}
	dir := h.t.TempDir()
	h.background(h.Name()+"-c", filepath.Join(bin, "control"), testhost.ClientAddr)
	h.background(n.peer, filepath.Join(bin, "tailscaled"), "--statedir", dir, "--socket", filepath.Join(dir, "sock"), "--no-logs-no-support")
	join := []string{"up", "--login-server", "http://" + testhost.ClientAddr + ":9911", "--accept-dns=false", "--timeout", "20s"}
	n.wait("the peer joins", func() string {
		out, err := exec.Command("ip", append([]string{"netns", "exec", n.peer}, peerTailscale(bin, dir, append(join, "--advertise-exit-node",
			"--advertise-routes=198.51.100.0/24")...)...)...).CombinedOutput()
		return words(err, out)
	})
	h.client("curl", "-sSf", "http://"+testhost.ClientAddr+":9911/approve")
	for from, to := range map[string]string{"tailscale": "/usr/bin/tailscale", "tailscaled": "/usr/sbin/tailscaled"} {
		if err := h.Copy(h.t.Context(), filepath.Join(bin, from), to); err != nil {
			h.t.Fatal(err)
		}
	}
	if err := h.Write(h.t.Context(), "/etc/systemd/system/tailscaled.service", 0o644, strings.NewReader(tailscaleUnit)); err != nil {
		h.t.Fatal(err)
	}
	h.must("systemctl", "start", "tailscaled")
	h.must(append([]string{"tailscale"}, join...)...)
	return n
}

// words returns what a command said that failed, and "" for one that did not.
func words(err error, out []byte) string {
	if err == nil {
		return ""
	}
	return fmt.Sprintf("%v: %s", err, out)
}

// background runs a program in a network until the test ends, with an /etc/resolv.conf of its own.
func (h host) background(network string, argv ...string) {
	h.t.Helper()
	const own = `mount --bind "$0" /etc/resolv.conf; exec "$@"`
	resolver := filepath.Join(h.t.TempDir(), "resolv.conf")
	if err := os.WriteFile(resolver, nil, 0o644); err != nil {
		h.t.Fatal(err)
	}
	cmd := exec.Command("ip", append([]string{"netns", "exec", network, "bash", "-ec", own, resolver}, argv...)...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if lines := strings.Split(said.String(), "\n"); h.t.Failed() {
			h.t.Logf("the last of %s:\n%s", argv[0], strings.Join(lines[max(0, len(lines)-20):], "\n"))
		}
	})
}

// wait waits until try says "".
func (n tailnet) wait(what string, try func() string) {
	n.t.Helper()
	if late := eventually(patience/2, try); late != "" {
		n.t.Errorf("%s: %s", what, late)
	}
}

// from returns the result of curl in a network: "200", or "000" for no answer.
func from(network, url string) string {
	out, _ := exec.Command("ip", "netns", "exec", network, "curl", "-gs", "-m", "3", "-o", "/dev/null", "-w", "%{http_code}", url).Output()
	return string(out)
}

// unanswered returns the URLs of a published port that do not answer. Among those that ask are a client on the LAN, one beyond a
// router, the host itself, and with joined a client in the tailnet.
func (n tailnet) unanswered(joined bool) string {
	lan := []string{"http://192.0.2.1:8080/", "http://[2001:db8:7::1]:8080/"}
	asked := map[string][]string{n.Name() + "-c": lan, n.peer: lan, n.Name(): {"http://127.0.0.1:8080/", lan[0]}}
	if joined {
		tail := strings.Fields(n.run("tailscale", "ip").Stdout)
		if len(tail) != 2 {
			return fmt.Sprintf("the host has the addresses %q in the tailnet", tail)
		}
		four, six := "http://"+tail[0]+":8080/", "http://["+tail[1]+"]:8080/"
		asked[n.peer] = append([]string{four, six}, lan...)
		asked[n.Name()] = append(asked[n.Name()], four)
	}
	var failed []string
	for network, urls := range asked {
		for _, url := range urls {
			if got := from(network, url); got != "200" {
				failed = append(failed, strings.TrimPrefix(network, n.Name())+" "+url+" "+got)
			}
		}
	}
	return strings.Join(failed, "\n")
}

// reach wants the box to reach, or not to reach, what is beyond the exit node.
func (n tailnet) reach(when string, want bool, addrs ...string) {
	n.t.Helper()
	for _, addr := range addrs {
		n.wait(when+", from the box to "+addr, func() string {
			if r := n.run("boxrun", "exec", "dual", "--", "ping", "-c", "1", "-W", "1", addr); (r.Code == 0) != want {
				return r.String()
			}
			return ""
		})
	}
}

// agree wants all who look to find the box in place.
func (n tailnet) agree(when string) {
	n.t.Helper()
	n.wait(when+", status", func() string {
		if got := n.run("boxrun", "status", "dual"); !strings.Contains(got.Stdout, "in place") {
			return got.String()
		}
		return ""
	})
	if r := n.run("boxrun", "doctor", "dual"); r.Code != 0 {
		n.t.Errorf("%s, doctor: %v", when, r)
	}
	if r := n.run("boxrun", "trace", "--probe", "dual", "8080"); strings.Count(r.Stdout, "probe: the connection opened") != 2 {
		n.t.Errorf("%s, trace: %v", when, r)
	}
	if r := n.run("boxrun", "repair"); r.Code != 0 || strings.Contains(r.Stderr, "mended") {
		n.t.Errorf("%s, repair: %v", when, r)
	}
}

// settings returns what Tailscale and boxrun share: rules of the firewall and of routing, and routes.
func (n tailnet) settings() string {
	d := n.dump()
	var text string
	for _, section := range []string{"rules of routing", "routes", "iptables-nft", "ip6tables-nft"} {
		text += d.Section(section)
	}
	return text
}

// alone wants the settings as they were, once Tailscale has seen that the bridge is gone.
func (n tailnet) alone(when, before string) {
	n.t.Helper()
	n.wait(when, func() string {
		if now := n.settings(); now != before {
			return "the host has\n" + now + "\nand had\n" + before
		}
		return ""
	})
}

// Tailscale itself beside a box: first a box that nothing mends but up, then an enabled box through all that a tailscaled does.
// The programs take two minutes to build the first time, hence the test is no part of a change's.
func TestTailscale(t *testing.T) {
	if !soak() {
		t.Skip("builds Tailscale: BOXRUN_SOAK=1")
	}
	h := newHost(t)
	n := h.joinTailnet()
	n.profile("dual", dualProfile(`"8080:80"`))
	plain := n.settings()
	n.must("boxrun", "up", "dual")
	n.wait("joined before up", func() string { return n.unanswered(true) })
	n.agree("joined before up")

	n.must("tailscale", "set", "--exit-node=100.64.0.1")
	n.wait("status with an exit node", func() string { // which takes the answers to the LAN
		if got := n.run("boxrun", "status", "dual"); !containsAll(got.Stdout, []string{"drifted", "the routing rule is missing"}) {
			return got.String()
		}
		return ""
	})
	if got := from(n.Name()+"-c", "http://192.0.2.1:8080/"); got != "000" {
		t.Errorf("a client on the LAN beside an exit node, before up: got %s, want no answer", got)
	}
	n.must("boxrun", "up", "dual")
	n.wait("mended beside an exit node", func() string { return n.unanswered(true) })
	n.agree("mended beside an exit node")
	n.reach("by the exit node", true, "198.51.100.9", "2001:db8:99::9")
	n.must("boxrun", "down", "dual")
	n.must("tailscale", "set", "--exit-node=")
	n.alone("after down", plain)

	n.must("tailscale", "set", "--exit-node=100.64.0.1")
	n.must("boxrun", "up", "dual")
	n.must("boxrun", "enable", "dual")
	for _, s := range tailscaleSteps() {
		n.sh(s.command)
		n.wait(s.command, func() string { return n.unanswered(!s.left) })
		n.agree(s.command)
		n.reach(s.command, s.exit, "2001:db8:99::9")
	}
	n.bulk()
	n.must("tailscale", "set", "--exit-node=", "--accept-routes=false", "--stateful-filtering=false")
	n.must("boxrun", "host", "reset", "--force")
	n.alone("after a reset", plain)
}

// tailscaleStep is what happens to Tailscale on the host, and how things are after it.
type tailscaleStep struct {
	command string
	left    bool // the host is not in the tailnet
	exit    bool // all goes by the exit node
}

func tailscaleSteps() []tailscaleStep {
	return []tailscaleStep{
		{command: "tailscale set --exit-node=100.64.0.1 --exit-node-allow-lan-access", exit: true},
		{command: "tailscale set --exit-node= --accept-routes"},
		{command: "tailscale set --exit-node=100.64.0.1 --exit-node-allow-lan-access=false", exit: true},
		{command: "tailscale down", left: true},
		{command: "tailscale up --login-server http://192.0.2.2:9911 --accept-dns=false --accept-routes --exit-node=100.64.0.1 --timeout 20s", exit: true},
		{command: "systemctl restart tailscaled", exit: true},
		{command: "systemctl kill -s KILL tailscaled", exit: true},
		{command: "systemctl stop tailscaled", left: true},
		{command: "systemctl start tailscaled", exit: true},
		{command: "tailscale set --stateful-filtering", exit: true},
		{command: "tailscale set --netfilter-mode=nodivert", exit: true},
		{command: "tailscale set --netfilter-mode=off", exit: true},
		{command: "tailscale set --netfilter-mode=on", exit: true},
	}
}

// bulk moves what does not fit into the tailnet's packets of 1,280 bytes: to a client in the tailnet, and out by the exit node.
func (n tailnet) bulk() {
	n.t.Helper()
	want := strings.Fields(n.must("boxrun", "exec", "dual", "--", "sh", "-c", "head -c 8000000 /dev/urandom > /var/www/html/big; sha256sum /var/www/html/big"))[0]
	for _, addr := range strings.Fields(n.must("tailscale", "ip")) {
		url := "http://[" + addr + "]:8080/big"
		if !strings.Contains(addr, ":") {
			url = "http://" + addr + ":8080/big"
		}
		out, err := exec.Command("ip", "netns", "exec", n.peer, "bash", "-o", "pipefail", "-ec", "curl -gsS -m 60 "+url+" | sha256sum").CombinedOutput()
		if err != nil || !strings.HasPrefix(string(out), want) {
			n.t.Errorf("8 MB from %s: %v: %s, want %s", url, err, out, want)
		}
	}
	for _, at := range []string{"198.51.100.9", "2001:db8:99::9"} {
		n.upload(at)
	}
}

// upload has the box send 8 MB to an address beyond the exit node.
func (n tailnet) upload(at string) {
	n.t.Helper()
	peer, err := netns.GetFromName(n.peer)
	if err != nil {
		n.t.Fatal(err)
	}
	defer peer.Close()
	l, err := dump.InNetwork(peer, func() (net.Listener, error) { return net.Listen("tcp", net.JoinHostPort(at, "7000")) })
	if err != nil {
		n.t.Fatal(err)
	}
	defer l.Close()
	got := make(chan string, 1)
	go func() {
		sum := sha256.New()
		c, err := l.Accept()
		if err == nil {
			_, err = io.Copy(sum, c)
		}
		got <- fmt.Sprintf("%x %v", sum.Sum(nil), err)
	}()
	want := n.must("boxrun", "exec", "dual", "--", "bash", "-ec", "nc -N -w 60 "+at+" 7000 < /var/www/html/big; sha256sum < /var/www/html/big")
	l.Close() // where nobody came
	if sum, want := <-got, strings.Fields(want)[0]+" <nil>"; sum != want {
		n.t.Errorf("8 MB to %s: got %s, want %s", at, sum, want)
	}
}
