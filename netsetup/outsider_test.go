package netsetup

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"boxrun/netsetup/dump"
	"boxrun/netsetup/nstest"
	"boxrun/netsetup/outsider"
	"boxrun/netsetup/sockets"
	"boxrun/netsetup/wayout"
)

func TestOutsiderNFT(t *testing.T)    { onPackets(t, "nft", testOutsider) }
func TestOutsiderLegacy(t *testing.T) { onPackets(t, "legacy", testOutsider) }

// An outsider is what a client is: it gets where one gets, is told of the smaller path, and leaves nothing.
func testOutsider(t *testing.T, l *lab) {
	before := dumpHost(t)
	o, err := outsider.Open(1200)
	if err != nil {
		t.Fatal(err)
	}
	if benchmark := netip.MustParsePrefix("198.18.0.0/15"); !benchmark.Contains(o.Addr) || !benchmark.Contains(o.Gateway) {
		t.Errorf("addresses %v and %v, want some of %v", o.Addr, o.Gateway, benchmark)
	}
	for _, test := range []struct {
		to, want string
		limit    time.Duration
	}{
		{"192.0.2.1:8080", fmt.Sprintf("%v to port 80, mss 1100", o.Addr), answerTime},
		{"192.0.2.1:8081", "no answer", silence}, // allow_from does not name it
		{"10.22.0.8:80", "no answer", silence},
	} {
		if got := askFrom(t, o, test.to, test.limit); got != test.want {
			t.Errorf("from outside to %s: got %q, want %q", test.to, got, test.want)
		}
	}
	listener, err := dump.InNetwork(o.NS, func() (net.Listener, error) { return net.Listen("tcp4", netip.AddrPortFrom(o.Addr, 0).String()) })
	if err != nil {
		t.Fatal(err)
	}
	l.serve("") // the lab's programs are in other namespaces all the same
	if err := listener.Close(); err != nil {
		t.Error(err)
	}
	if err := o.Close(); err != nil {
		t.Error(err)
	}
	sameHost(t, "after the outsider", dumpHost(t), before)
	if got := nstest.Shell(t, "conntrack -L 2>/dev/null | grep -c 198.18 || true"); got != "0" {
		t.Errorf("%s tracked connections of the outsider are left", got)
	}
}

// askFrom returns the answer of a server of the lab.
func askFrom(t *testing.T, o *outsider.Outsider, to string, limit time.Duration) string {
	t.Helper()
	conn, err := o.Dial(timeout(t, limit), "tcp4", to)
	if err != nil {
		return "no answer"
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(answerTime))
	_, _ = fmt.Fprintln(conn, "hello")
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(line)
}

// Who listens is told by the kernel of the network asked about, with the process that does.
func TestServers(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	l := &lab{t: t}
	nstest.Shell(t, "ip netns add box; ip -n box link set lo up")
	l.serve("box", "tcp/127.0.0.1:80", "tcp/0.0.0.0:81", "udp/0.0.0.0:53")
	l.serve("", "tcp/0.0.0.0:82")
	pid := 0
	if _, err := fmt.Sscan(nstest.Shell(t, "ip netns pids box | head -n 1"), &pid); err != nil {
		t.Fatal(err)
	}
	servers, err := Servers(pid, []Port{
		{Container: 80, Count: 3, Proto: "tcp"}, {Container: 53, Count: 1, Proto: "udp"}, {Container: 54, Count: 1, Proto: "udp"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range servers {
		got = append(got, fmt.Sprintf("%s %v:%d, %v", s.Proto, s.Addr, s.Port, s.By == sockets.ProcessName(pid)))
	}
	// Go listens on both families for 0.0.0.0.
	want := "tcp 127.0.0.1:80, true\ntcp :::81, true\nudp :::53, true"
	if strings.Join(got, "\n") != want {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), want)
	}
}

func TestWayOut(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	l := &lab{t: t}
	nstest.Shell(t, `
		ip netns add box; ip -n box link set lo up
		ip link add sbr0 type bridge; ip addr add 10.22.0.1/16 dev sbr0; ip link set sbr0 up`)
	nstest.Shell(t, fmt.Sprintf(boxScript, "veth8", "box", "10.22.0.8"))
	l.serve("box", "tcp/127.0.0.1:80")
	pid := 0
	if _, err := fmt.Sscan(nstest.Shell(t, "ip netns pids box | head -n 1"), &pid); err != nil {
		t.Fatal(err)
	}
	gateway, err := wayout.Gateway(pid)
	if gateway.String() != "10.22.0.1" || err != nil {
		t.Errorf("gateway: got %v, %v, want 10.22.0.1", gateway, err)
	}
	for _, test := range []struct {
		addr  string
		want  bool
		limit time.Duration
	}{{"10.22.0.1", true, answerTime}, {"10.22.0.77", false, silence}} {
		got, err := wayout.Neighbour(timeout(t, test.limit), pid, netip.MustParseAddr(test.addr))
		if got != test.want || err != nil {
			t.Errorf("%s answers: got %v, %v, want %v", test.addr, got, err, test.want)
		}
	}
	nstest.Shell(t, "ip -n box route del default")
	if gateway, err := wayout.Gateway(pid); gateway.IsValid() || err != nil {
		t.Errorf("without one: got %v, %v, want none", gateway, err)
	}
}

// timeout returns a context that ends with the test or after d.
func timeout(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
