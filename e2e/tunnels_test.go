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
	"slices"
	"strings"

	"boxrun/netsetup/dump"

	"github.com/vishvananda/netns"
)

// tunnel is a host that may have a VPN, and the VPN's other end: a peer beyond the client, by which all can go.
type tunnel struct {
	host
	peer string // the network of the peer
}

// tunnelScript makes the network $2 of the peer behind the client $1, and an address that only the peer can reach. The host $3
// has IPv6.
const tunnelScript = `
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

// tunnelEnd makes the peer of a host, which has no VPN yet.
func (h host) tunnelEnd() tunnel {
	h.t.Helper()
	n := tunnel{h, h.Name() + "-p"}
	h.t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", n.peer).Run() })
	if out, err := exec.Command("bash", "-ec", tunnelScript, "beyond", h.Name()+"-c", n.peer, h.Name()).CombinedOutput(); err != nil {
		h.t.Fatalf("%v: %s", err, out)
	}
	return n
}

// words returns what a command said that failed, and "" for one that did not.
func words(err error, out []byte) string {
	if err == nil {
		return ""
	}
	return fmt.Sprintf("%v: %s", err, out)
}

// background runs a program in a network until the test ends, with an /etc/resolv.conf of its own. What the program starts ends
// with it.
func (h host) background(network string, argv ...string) {
	h.t.Helper()
	const own = `mount --bind "$0" /etc/resolv.conf; exec "$@"`
	resolver := filepath.Join(h.t.TempDir(), "resolv.conf")
	if err := os.WriteFile(resolver, nil, 0o644); err != nil {
		h.t.Fatal(err)
	}
	cmd := exec.Command("ip", append([]string{"netns", "exec", network, "unshare", "--pid", "--fork", "--kill-child",
		"bash", "-ec", own, resolver}, argv...)...)
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
func (n tunnel) wait(what string, try func() string) {
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
// router, the host itself, and the peer at addresses of the host in the VPN.
func (n tunnel) unanswered(inside ...string) string {
	lan := []string{"http://192.0.2.1:8080/", "http://[2001:db8:7::1]:8080/"}
	asked := map[string][]string{n.Name() + "-c": lan, n.peer: slices.Clone(lan), n.Name(): {"http://127.0.0.1:8080/", lan[0]}}
	for _, addr := range inside {
		asked[n.peer] = append(asked[n.peer], portAt(addr))
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

// portAt returns the URL of the published port at an address.
func portAt(addr string) string { return "http://" + net.JoinHostPort(addr, "8080") + "/" }

// reach wants the box to reach, or not to reach, what is beyond the exit node.
func (n tunnel) reach(when string, want bool, addrs ...string) {
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
func (n tunnel) agree(when string) {
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

// settings returns what a VPN and boxrun share: rules of the firewall and of routing, and routes.
func (n tunnel) settings() string {
	d := n.dump()
	var text string
	for _, section := range []string{"rules of routing", "routes", "iptables-nft", "ip6tables-nft"} {
		text += d.Section(section)
	}
	return text
}

// alone wants the settings as they were, once the VPN has seen that the bridge is gone.
func (n tunnel) alone(when, before string) {
	n.t.Helper()
	n.wait(when, func() string {
		if now := n.settings(); now != before {
			return "the host has\n" + now + "\nand had\n" + before
		}
		return ""
	})
}

// bulk moves what does not fit into the packets of a VPN: to the peer, by addresses of the host in the VPN, and to what only the
// peer can reach.
func (n tunnel) bulk(inside ...string) {
	n.t.Helper()
	want := strings.Fields(n.must("boxrun", "exec", "dual", "--", "sh", "-c", "head -c 8000000 /dev/urandom > /var/www/html/big; sha256sum /var/www/html/big"))[0]
	for _, addr := range inside {
		url := portAt(addr) + "big"
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
func (n tunnel) upload(at string) {
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
