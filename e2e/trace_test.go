package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"boxrun/e2e/testhost"
	"boxrun/launcher/trace"
)

// A boxrun trace runs beside what a test does.
type running struct {
	*exec.Cmd
	pid    string // on the host
	stderr *bufio.Reader
	out    *strings.Builder // stdout; complete after Wait
}

// beginTrace starts boxrun trace on the host, and waits until it looks at packets.
func (h host) beginTrace(args ...string) running {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	h.t.Cleanup(cancel)
	cmd := h.Command(ctx, append([]string{"sh", "-c", "echo $$ >&2; exec boxrun trace \"$@\"", "sh"}, args...)...)
	r := running{Cmd: cmd, out: new(strings.Builder)}
	cmd.Stdout = r.out
	stderr, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		h.t.Fatal(err)
	}
	r.stderr = bufio.NewReader(stderr)
	pid, err := r.stderr.ReadString('\n')
	r.pid = strings.TrimSpace(pid)
	for line := ""; err == nil && !strings.Contains(line, "tracing packets of"); {
		line, err = r.stderr.ReadString('\n')
	}
	if err != nil {
		h.t.Fatalf("boxrun trace %v does not begin: %v", args, err)
	}
	return r
}

// traced gives the events of a trace while do runs, and wants the trace to end well with Ctrl-C.
func (h host) traced(do func(), args ...string) []trace.Event {
	h.t.Helper()
	r := h.beginTrace(append([]string{"--json"}, args...)...)
	do()
	time.Sleep(500 * time.Millisecond)
	h.must("kill", "-INT", r.pid)
	rest, _ := io.ReadAll(r.stderr)
	var events []trace.Event
	err := r.Wait()
	if err == nil {
		err = json.Unmarshal([]byte(r.out.String()), &events)
	}
	if err != nil {
		h.t.Fatalf("boxrun trace %v: %v\n%s%s", args, err, r.out, rest)
	}
	return events
}

// hasEvent wants an event of a reason, with words in its packet, text and fix.
func (h host) hasEvent(events []trace.Event, reason string, words ...string) {
	h.t.Helper()
	var all strings.Builder
	for _, e := range events {
		line := fmt.Sprintf("%s: %s: %s; fix: %s", e.Reason, e.Packet, e.Text, e.Fix)
		if e.Reason == reason && containsAll(line, words) {
			h.t.Log(line)
			return
		}
		all.WriteString(line + "\n")
	}
	h.t.Errorf("trace told\n%swant %s with %q", all.String(), reason, words)
}

// asked has the client connect to a port of the host and get no answer.
func (h host) asked(address string, seconds string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	r, err := h.Client(ctx, "timeout", seconds, h.probe, "tcp", address)
	if err != nil {
		h.t.Fatal(err)
	}
	if r.Code == 0 {
		h.t.Errorf("probe tcp %s: want no answer, got %v", address, r)
	}
}

const traceProfile = `
image = "/srv/web"
[network]
ports = ["8080:80", "8081:81"]
[ready]
units = ["nginx.service"]
`

func TestTraceDrops(t *testing.T) {
	h := newHost(t)
	h.profile("web", traceProfile)
	h.must("boxrun", "up", "web")
	before := h.dump()
	const port, closed = testhost.HostAddr + ":8080", testhost.HostAddr + ":8081"

	t.Run("a rule of others", func(t *testing.T) {
		h := h.in(t)
		h.must("iptables", "-I", "FORWARD", "-p", "tcp", "--dport", "80", "-j", "DROP")
		events := h.traced(func() { h.asked(port, "1.5") }, "web")
		h.hasEvent(events, "NETFILTER_DROP", "192.0.2.2:", "> 10.22.0.2:80 tcp SYN", "iptables -t filter -A FORWARD -p tcp --dport 80 -j DROP",
			"fix: boxrun doctor --fix")
		h.must("iptables", "-D", "FORWARD", "-p", "tcp", "--dport", "80", "-j", "DROP")
	})
	t.Run("a rule in raw, before the translation", func(t *testing.T) {
		h := h.in(t)
		h.must("iptables", "-t", "raw", "-I", "PREROUTING", "-p", "tcp", "--dport", "8080", "-j", "DROP")
		events := h.traced(func() { h.asked(port, "0.5") }, "web", "8080")
		h.hasEvent(events, "NETFILTER_DROP", "> 192.0.2.1:8080 tcp SYN", "iptables -t raw -A PREROUTING",
			"fix: iptables -t raw -D PREROUTING -p tcp --dport 8080 -j DROP")
		h.must("iptables", "-t", "raw", "-D", "PREROUTING", "-p", "tcp", "--dport", "8080", "-j", "DROP")
	})
	t.Run("an nftables table", func(t *testing.T) {
		h := h.in(t)
		h.sh(`nft 'table inet site { chain f { type filter hook forward priority 5; oifname "sbr0" tcp dport 80 drop; }; }'`)
		events := h.traced(func() { h.asked(port, "0.5") }, "web")
		h.hasEvent(events, "NETFILTER_DROP", "nft rule inet site f oifname \"sbr0\" tcp dport 80 drop", "fix: add to that chain")
		h.must("nft", "delete", "table", "inet", "site")
	})
	t.Run("nobody listens", func(t *testing.T) {
		h := h.in(t)
		events := h.traced(func() { h.asked(closed, "1"); h.asked(closed, "1") }, "web")
		h.hasEvent(events, "NO_SOCKET", "> 10.22.0.2:81 tcp SYN", "nothing listens on 81/tcp in the box")
		if len(events) != 1 || events[0].Times != 2 {
			t.Errorf("got %+v, want one event, twice", events)
		}
	})
	t.Run("somebody listens elsewhere", func(t *testing.T) {
		h := h.in(t)
		h.must("boxrun", "exec", "web", "--", "sh", "-c", "cp /etc/nginx/nginx.conf /tmp/; "+
			"echo 'server { listen 127.0.0.1:81; }' > /etc/nginx/conf.d/a.conf && nginx -s reload")
		events := h.traced(func() { h.asked(closed, "1") }, "web", "8081")
		h.hasEvent(events, "NO_SOCKET", "nginx", "listens on 127.0.0.1 alone", "make it listen on 0.0.0.0")
	})
	t.Run("not published", func(t *testing.T) {
		h := h.in(t)

		events := h.traced(func() {
			h.client("ip", "route", "replace", "10.22.0.0/16", "via", testhost.HostAddr)
			h.asked("10.22.0.2:22", "0.5")
		}, "web")
		h.hasEvent(events, "NETFILTER_DROP", "boxrun lets in published ports alone, and 22/tcp in the box is none", "network.ports")
	})
	t.Run("rp_filter", func(t *testing.T) {
		h := h.in(t)
		h.sh("ip link add d0 type bridge; ip link set d0 up; ip route add 203.0.113.0/24 dev d0; " +
			"sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=1")
		h.client("ip", "addr", "add", "203.0.113.9/32", "dev", "eth0")
		events := h.traced(func() { h.badClient("203.0.113.9", 8080, true) }, "web")
		h.hasEvent(events, "IP_RPFILTER", "203.0.113.9:", "rp_filter: it came by eth0", "fix: sysctl -w net.ipv4.conf.eth0.rp_filter=2")
		h.sh("ip link del d0; sysctl -qw net.ipv4.conf.all.rp_filter=2 net.ipv4.conf.eth0.rp_filter=2")
	})
	t.Run("a wrong checksum", func(t *testing.T) {
		h := h.in(t)
		events := h.traced(func() { h.badClient(testhost.ClientAddr, 8080, false) }, "web")
		h.hasEvent(events, "TCP_CSUM", "> 192.0.2.1:8080 tcp SYN", "its checksum is wrong", "fix: boxrun doctor --fix")
	})
	t.Run("nothing wrong", func(t *testing.T) {
		h := h.in(t)
		if events := h.traced(func() { h.client(h.probe, "get", "http://"+port+"/") }, "web"); len(events) > 0 {
			t.Errorf("got %+v, want nothing", events)
		}
	})
	h.same(before, stays()...)
}

// badClient sends the first packet of a connection from an address of the client, with a right or a wrong checksum.
func (h host) badClient(from string, port uint16, right bool) {
	h.t.Helper()
	failed := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
		ns, err := netns.GetFromName(h.Name() + "-c")
		if err == nil {
			err = netns.Set(ns)
		}
		if err == nil {
			err = sendSYN(netip.MustParseAddr(from), netip.AddrPortFrom(netip.MustParseAddr(testhost.HostAddr), port), right)
		}
		failed <- err
	}()
	if err := <-failed; err != nil {
		h.t.Fatal(err)
	}
}

func sendSYN(src netip.Addr, dst netip.AddrPort, right bool) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: src.As4()}); err != nil {
		return err
	}
	s, d, p := src.As4(), dst.Addr().As4(), dst.Port()
	tcp := []byte{0x9c, 0x40, byte(p >> 8), byte(p), 0, 0, 0, 1, 0, 0, 0, 0, 5 << 4, 2, 0xff, 0xff, 0, 0, 0, 0}
	sum := uint32(0)
	for _, part := range [][]byte{s[:], d[:], {0, unix.IPPROTO_TCP, 0, byte(len(tcp))}, tcp} {
		for i := 0; i < len(part); i += 2 {
			sum += uint32(part[i])<<8 | uint32(part[i+1])
		}
	}
	sum = ^(sum&0xffff + sum>>16)
	if !right {
		sum++
	}
	tcp[16], tcp[17] = byte(sum>>8), byte(sum)
	return unix.Sendto(fd, tcp, 0, &unix.SockaddrInet4{Addr: d})
}
