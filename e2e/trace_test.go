package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
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
	said   string           // on stderr before it began
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
		r.said += line
	}
	if err != nil {
		h.t.Fatalf("boxrun trace %v does not begin: %v", args, err)
	}
	return r
}

// interrupted waits for the end of a trace, and wants the code of an interrupt.
func (r running) interrupted() error {
	if err := r.Wait(); r.ProcessState.ExitCode() != 130 {
		return fmt.Errorf("got %w, want exit code 130", err)
	}
	return nil
}

// traced gives the events of a trace while do runs, and wants the trace to end well with Ctrl-C.
func (h host) traced(do func(), args ...string) []trace.Event {
	h.t.Helper()
	r := h.beginTrace(append([]string{"--json"}, args...)...)
	do()
	time.Sleep(500 * time.Millisecond)
	h.run("kill", "-INT", r.pid)
	rest, _ := io.ReadAll(r.stderr)
	var events []trace.Event
	err := r.interrupted()
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

// dropsOf gives the drops among events.
func dropsOf(events []trace.Event) []trace.Event {
	return slices.DeleteFunc(slices.Clone(events), func(e trace.Event) bool { return e.Kind != trace.Drop })
}

// mended types what the first drop's fix says, and wants the client to get through.
func (h host) mended(events []trace.Event, address string) {
	h.t.Helper()
	h.run("sh", "-c", dropsOf(events)[0].Fix)
	h.client(h.probe, "get", "http://"+address+"/")
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
	h.sh("iptables -A INPUT -j ACCEPT; iptables -D INPUT -j ACCEPT") // the chain stays
	before := h.dump()
	const port, closed = testhost.HostAddr + ":8080", testhost.HostAddr + ":8081"

	t.Run("a rule of others", func(t *testing.T) {
		h := h.in(t)
		h.must("iptables", "-I", "FORWARD", "-p", "tcp", "--dport", "80", "-j", "DROP")
		events := h.traced(func() { h.asked(port, "1.5") }, "web")
		h.hasEvent(events, "NETFILTER_DROP", "192.0.2.2:", "> 10.22.0.2:80 tcp SYN", "iptables -t filter -A FORWARD -p tcp --dport 80 -j DROP",
			"fix: boxrun doctor --fix")
		h.mended(events, port)
		h.must("iptables", "-D", "FORWARD", "-p", "tcp", "--dport", "80", "-j", "DROP")
	})
	t.Run("a rule in raw, before the translation", func(t *testing.T) {
		h := h.in(t)
		h.must("iptables", "-t", "raw", "-I", "PREROUTING", "-p", "tcp", "--dport", "8080", "-j", "DROP")
		events := h.traced(func() { h.asked(port, "0.5") }, "web", "8080")
		h.hasEvent(events, "NETFILTER_DROP", "> 192.0.2.1:8080 tcp SYN", "iptables -t raw -A PREROUTING",
			"fix: iptables -t raw -D PREROUTING -p tcp --dport 8080 -j DROP")
		h.mended(events, port)
	})
	t.Run("an nftables table", func(t *testing.T) {
		h := h.in(t)
		h.sh(`nft 'table inet site { chain f { type filter hook forward priority 5; oifname "sbr0" tcp dport 80 drop; }; }'`)
		events := h.traced(func() { h.asked(port, "0.5") }, "web")
		h.hasEvent(events, "NETFILTER_DROP", "nft rule inet site f oifname \"sbr0\" tcp dport 80 drop", "fix: add to that chain")
		h.must("nft", "delete", "table", "inet", "site")
	})
	t.Run("traffic control, after the source became the host's", func(t *testing.T) {
		h := h.in(t)
		h.sh("tc qdisc add dev eth0 root tbf rate 8kbit burst 60 limit 60") // less than a packet's size
		events := h.traced(func() {
			h.run("boxrun", "exec", "web", "--", "timeout", "0.5", "bash", "-c", "echo > /dev/tcp/"+testhost.ClientAddr+"/6009")
			h.run("timeout", "0.5", "bash", "-c", "echo > /dev/tcp/"+testhost.ClientAddr+"/6009") // the host's own: not told
		}, "web")
		h.hasEvent(events, "QDISC_DROP", "192.0.2.1:", "> 192.0.2.2:6009 tcp SYN", "traffic control", "fix: tc -s qdisc show")
		own := slices.DeleteFunc(dropsOf(events), func(e trace.Event) bool { return !strings.Contains(e.Packet, ":6009 ") })
		if len(own) != 1 || own[0].Times != 1 {
			t.Errorf("got %+v, want one drop, of the box's own connection", own)
		}
		h.sh("tc qdisc del dev eth0 root")
	})
	t.Run("a rule after the source became the host's", func(t *testing.T) {
		h := h.in(t)
		h.sh(`nft 'table netdev site { chain e { type filter hook egress device "eth0" priority 0; tcp dport 6009 drop; }; }'`)
		events := h.traced(func() {
			h.run("boxrun", "exec", "web", "--", "timeout", "0.5", "bash", "-c", "echo > /dev/tcp/"+testhost.ClientAddr+"/6009")
		}, "web")
		h.hasEvent(events, "NETFILTER_DROP", "192.0.2.1:", "> 192.0.2.2:6009 tcp SYN", "after its addresses were translated")
		h.must("nft", "delete", "table", "netdev", "site")
	})
	t.Run("nobody listens", func(t *testing.T) {
		h := h.in(t)
		events := h.traced(func() { h.asked(closed, "1"); h.asked(closed, "1") }, "web")
		h.hasEvent(events, "NO_SOCKET", "> 10.22.0.2:81 tcp SYN", "nothing listens on 81/tcp in the box")
		if drops := dropsOf(events); len(drops) != 1 || drops[0].Times != 2 {
			t.Errorf("got %+v, want one drop, twice", drops)
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
		h.client(h.probe, "get", "http://"+port+"/") // the host would not answer ARP of that address
		events := h.traced(func() { h.sendSYN("-c", "203.0.113.9", port, true) }, "web")
		h.hasEvent(events, "IP_RPFILTER", "203.0.113.9:", "rp_filter: it came by eth0", "fix: sysctl -w net.ipv4.conf.eth0.rp_filter=2")
		h.sh("ip link del d0; sysctl -qw net.ipv4.conf.all.rp_filter=2 net.ipv4.conf.eth0.rp_filter=2")
	})
	t.Run("a tunnel whose program does not read", func(t *testing.T) {
		h := h.in(t)
		h.sh("setsid sh -c 'sleep 60 | socat TUN:203.0.113.1/24,tun-name=tun9,iff-no-pi,iff-up -' > /dev/null 2>&1 & " +
			"for i in $(seq 60); do ip link show tun9 2> /dev/null | grep -q LOWER_UP && break; sleep 0.05; done; kill -STOP $(pgrep -x socat); " +
			"ip link set tun9 txqueuelen 1; ip route add " + testhost.ClientAddr + "/32 dev tun9")
		events := h.traced(func() { h.asked(port, "0.3"); h.asked(port, "0.3"); h.asked(port, "0.3") }, "web")
		h.hasEvent(events, "FULL_RING", "> 192.0.2.2:", "the queue of a device (tun, tap, veth) is full", "fix: ip route get 192.0.2.2")
		h.sh("kill -KILL $(pgrep -x socat) $(pgrep -x -f 'sleep 60')")
	})
	t.Run("a wrong checksum", func(t *testing.T) {
		h := h.in(t)
		events := h.traced(func() { h.sendSYN("", testhost.HostAddr, "10.22.0.2:80", false) }, "web")
		h.hasEvent(events, "TCP_CSUM", "> 10.22.0.2:80 tcp SYN", "its checksum is wrong", `fix: set network.offload = "off" in /etc/boxrun/profiles/web.toml`)
	})
	t.Run("a wrong checksum from outside", func(t *testing.T) {
		h := h.in(t)
		events := h.traced(func() { h.sendSYN("-c", testhost.ClientAddr, port, false) }, "web")
		h.hasEvent(events, "NETFILTER_DROP", "> 192.0.2.1:8080 tcp SYN", "the host knows no connection of it (INVALID)", "BOXRUN-IN-web")
	})
	t.Run("the policy of an nftables chain", func(t *testing.T) {
		h := h.in(t)
		h.sh(`nft 'table inet site { chain f { type filter hook forward priority 5; policy drop; }; }'`)
		events := h.traced(func() { h.asked(port, "0.5") }, "web")
		h.hasEvent(events, "NETFILTER_DROP", "nft chain inet site f { policy drop; }", "fix: add to that chain")
		h.must("nft", "delete", "table", "inet", "site")
	})
	t.Run("rp_filter in the box", func(t *testing.T) {
		h := h.in(t)
		h.inBox("ip route add 192.0.2.2/32 dev lo; sysctl -qw net.ipv4.conf.eth0.rp_filter=1")
		events := h.traced(func() { h.asked(port, "0.5") }, "web")
		h.hasEvent(events, "IP_RPFILTER", "> 10.22.0.2:80", "it came by eth0", "fix: boxrun exec web -- sysctl -w net.ipv4.conf.eth0.rp_filter=2")
		h.inBox("ip route del 192.0.2.2/32 dev lo")
		h.mended(events, port)
		h.inBox("test $(cat /proc/sys/net/ipv4/conf/eth0/rp_filter) = 2; sysctl -qw net.ipv4.conf.eth0.rp_filter=0")
	})
	t.Run("the host's own ports", func(t *testing.T) {
		h := h.in(t)
		const rule = "INPUT -i sbr0 -p tcp --dport 7777 -j DROP"
		h.sh("iptables -A " + rule)
		events := h.traced(func() { h.inBox("timeout 0.5 bash -c ': < /dev/tcp/10.22.0.1/7777' || true") }, "web")
		h.hasEvent(events, "NETFILTER_DROP", "10.22.0.2:", "> 10.22.0.1:7777 tcp SYN", "dropped by: iptables -t filter -A "+rule,
			"fix: iptables -I INPUT -i sbr0 -p tcp --dport 7777 -j ACCEPT")
		h.sh("iptables -D " + rule)
	})
	t.Run("the box's own firewall", func(t *testing.T) {
		h := h.in(t)
		h.inBox("nft 'table ip own { chain i { type filter hook input priority 0; tcp dport 80 drop; }; }'")
		if r := h.run("boxrun", "doctor", "web"); !strings.Contains(r.Stdout, "fix: boxrun trace --probe web 8080\n") {
			t.Errorf("doctor does not point to trace: %v", r)
		}
		if out := h.must("boxrun", "trace", "--probe", "web", "8080"); !strings.Contains(out,
			"died: dropped by a rule of the box's own firewall\n      fix: boxrun exec web -- nft list ruleset\n") {
			t.Errorf("trace tells\n%s", out)
		}
		h.inBox("nft delete table ip own")
	})
	h.same(before, stays()...)
}

// inBox runs a script of the host's programs in the network of the box web.
func (h host) inBox(script string) {
	h.t.Helper()
	h.must("sh", "-ec", `nsenter -n -t $(boxrun status --json web | jq .pid) sh -ec "$1"`, "sh", script)
}

// What a packet that gets through meets on its way is told in order, and no packet dies.
func TestTraceRules(t *testing.T) {
	h := newHost(t)
	h.profile("web", traceProfile)
	h.must("boxrun", "up", "web")
	h.sh(`nft 'table inet site { chain f { type filter hook forward priority 5; oifname "sbr0" counter; }; }'`)
	events := h.traced(func() {
		h.client(h.probe, "get", "http://"+testhost.HostAddr+":8080/")
		time.Sleep(300 * time.Millisecond)
		h.must("nft", "flush", "ruleset") // as the reload of a firewall does
		h.must("boxrun", "repair")
	}, "web", "8080")
	var got strings.Builder
	for _, e := range events {
		if e.Kind != trace.Rule {
			t.Errorf("got %+v, want rules alone", e)
		}
		if strings.Contains(e.Packet, "192.0.2.2") && strings.HasSuffix(e.Packet, " SYN") {
			got.WriteString(e.Text + "\n")
		}
	}
	want := `iptables -t raw -A PREROUTING -m comment --comment boxrun:host -j BOXRUN-GUARD
iptables -t nat -A PREROUTING ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -m comment --comment boxrun:host -j BOXRUN-DNAT
iptables -t nat -A BOXRUN-DNAT -m comment --comment boxrun:web -j BOXRUN-DN-web
iptables -t nat -A BOXRUN-DN-web -p tcp --dport 8080:8081 -m comment --comment boxrun:web -j DNAT --to-destination 10.22.0.2:80-81/8080
iptables -t mangle -A FORWARD -m comment --comment boxrun:host -j BOXRUN-MSS
iptables -t mangle -A BOXRUN-MSS -o sbr0 -p tcp --tcp-flags SYN,RST SYN -m comment --comment boxrun:sbr0 -j TCPMSS --clamp-mss-to-pmtu
iptables -t filter -A FORWARD -m comment --comment boxrun:host -j BOXRUN-FWD
iptables -t filter -A BOXRUN-FWD -m comment --comment boxrun:host -j BOXRUN-REPLY
iptables -t filter -A BOXRUN-FWD -m comment --comment boxrun:host -j BOXRUN-BOXES
iptables -t filter -A BOXRUN-BOXES -d 10.22.0.2 -m comment --comment boxrun:web -j BOXRUN-FW-web
iptables -t filter -A BOXRUN-FW-web -p tcp --dport 80:81 -m conntrack --ctstate DNAT -m comment --comment boxrun:web -j ACCEPT
nft rule inet site f oifname "sbr0" counter packets N bytes N
iptables -t nat -A POSTROUTING -m comment --comment boxrun:host -j BOXRUN-SNAT
`
	if text := regexp.MustCompile(`(packets|bytes) \d+`).ReplaceAllString(got.String(), "$1 N"); text != want {
		t.Errorf("got:\n%s\nwant:\n%s", text, want)
	}
}

// A trace changes nothing on the host but its own table of nftables, and the kernel takes away what the trace had there,
// however the trace ends.
func TestTraceLeavesNothing(t *testing.T) {
	h := newHost(t)
	h.profile("web", traceProfile)
	h.must("boxrun", "up", "web")
	before := h.dump()
	for _, signal := range []string{"INT", "TERM", "HUP", "KILL"} {
		t.Run(signal, func(t *testing.T) {
			h := h.in(t)
			r := h.beginTrace("web")
			h.client(h.probe, "get", "http://"+testhost.HostAddr+":8080/")
			if diff := before.Diff(h.dump()); !strings.Contains(diff, "boxrun-trace-"+r.pid) || strings.Contains(diff, "\n-") {
				t.Errorf("while a trace runs the host differs by\n%s\nwant its table boxrun-trace-%s, and nothing gone", diff, r.pid)
			}
			if programs := h.programsOf(r.pid); programs == 0 {
				t.Error("the trace has no program in the kernel")
			}
			h.must("kill", "-"+signal, r.pid)
			_, _ = io.ReadAll(r.stderr)
			if err := r.interrupted(); (err == nil) == (signal == "KILL") {
				t.Errorf("after SIG%s the trace ended with %v", signal, err)
			}
			h.same(before)
		})
	}
}

// Where the kernel tells of drops alone, or of rules alone, the trace says so and shows the other.
func TestTraceOnOtherKernels(t *testing.T) {
	h := newHost(t)
	h.profile("web", traceProfile)
	h.must("boxrun", "up", "web")
	h.must("iptables", "-I", "FORWARD", "-p", "tcp", "--dport", "80", "-j", "DROP")
	for _, c := range []struct {
		name, change, undo, says string
		rules                    bool
	}{
		{"without reasons", "mount -t tmpfs none /sys/kernel/btf", "umount /sys/kernel/btf", // types, and with them reasons, cannot be read
			"boxrun: only rules are shown: this kernel tells no reasons of drops (Linux 5.17, EL 9 or newer has them)", true},
		{"with tables of iptables-legacy", "iptables-legacy -t filter -L -n", "true",
			"boxrun: only drops are shown: rules of iptables-legacy cannot be traced", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := h.in(t)
			h.sh(c.change)
			r := h.beginTrace("web")
			h.asked(testhost.HostAddr+":8080", "0.5")
			time.Sleep(500 * time.Millisecond)
			h.must("kill", "-INT", r.pid)
			_, _ = io.ReadAll(r.stderr)
			if err := r.interrupted(); err != nil {
				t.Error(err)
			}
			h.sh(c.undo)
			const dropped = "died: dropped by: iptables -t filter -A FORWARD -p tcp --dport 80 -j DROP\n      fix: boxrun doctor --fix\n"
			if out := r.out.String(); !strings.Contains(r.said, c.says) || strings.Count(out, dropped) != 1 || strings.Contains(out, "rule: ") != c.rules {
				t.Errorf("got\n%s%s\nwant %q, and %q", r.said, out, c.says, dropped)
			}
		})
	}
}

// A trace of a box that ends has an end.
func TestTraceEndsWithTheBox(t *testing.T) {
	h := newHost(t)
	h.profile("web", traceProfile)
	h.must("boxrun", "up", "web")
	r := h.beginTrace("web")
	h.must("boxrun", "down", "web")
	said, _ := io.ReadAll(r.stderr)
	if err := r.Wait(); err != nil || !strings.Contains(string(said), "boxrun: web: the box has ended\n") {
		t.Errorf("got %v and %s", err, said)
	}
	h.fails(3, []string{`box "web" is not up`, `hint: "boxrun up web" brings it up`}, "boxrun", "trace", "web")
	h.profile("web", "image = \"/srv/web\"\nnetwork.mode = \"none\"\n")
	h.must("boxrun", "up", "web")
	h.fails(1, []string{"web: has no address of its own", "hint: trace is for boxes on a bridge"}, "boxrun", "trace", "web")
}

// programsOf counts the programs that a process of the host has loaded into the kernel.
func (h host) programsOf(pid string) int {
	h.t.Helper()
	return strings.Count(h.sh("cat /proc/"+pid+"/fdinfo/* 2> /dev/null || true"), "prog_tag")
}

// sendSYN sends the first packet of a connection, with a right or a wrong checksum, from the host or, with the suffix
// -c of its network, from the client.
func (h host) sendSYN(suffix, from, to string, right bool) {
	h.t.Helper()
	failed := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
		ns, err := netns.GetFromName(h.Name() + suffix)
		if err == nil {
			err = netns.Set(ns)
		}
		if err == nil {
			err = sendSYN(netip.MustParseAddr(from), netip.MustParseAddrPort(to), right)
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

// A probe connects by itself, and tells what became of it and why.
func TestTraceProbe(t *testing.T) {
	h := newHost(t)
	h.profile("web", strings.Replace(traceProfile, "ports = [", `ports = ["127.0.0.1:8090:80", "5300/udp", `, 1))
	h.must("boxrun", "up", "web")
	h.sh("iptables -t mangle -A POSTROUTING -j ACCEPT; iptables -t mangle -D POSTROUTING -j ACCEPT") // the chain stays
	before := h.dump()
	for _, c := range []struct {
		name, change, undo string
		args               []string
		want               []string // lines of stdout, in order
	}{
		{name: "open", args: []string{"8080"}, want: []string{"198.18.", " > 192.0.2.1:8080 tcp SYN\n", "-j DNAT --to-destination 10.22.0.2:80-81/8080",
			" > 10.22.0.2:80 tcp SYN\n", "probe: the connection opened"}},
		{name: "nobody listens", args: []string{"8081"}, want: []string{"died: nothing listens on 81/tcp in the box", "fix: boxrun status web",
			"probe: the connection was refused"}},
		{name: "nobody listens on udp", args: []string{"5300"}, want: []string{"died: nothing listens on 5300/udp in the box", "probe: the connection was refused"}},
		{name: "from the host", args: []string{"8090"}, want: []string{"-t nat -A OUTPUT", "probe: the connection opened"}},
		{name: "a rule", change: "iptables -t mangle -I POSTROUTING -o sbr0 -p tcp -j DROP", undo: "iptables -t mangle -D POSTROUTING -o sbr0 -p tcp -j DROP",
			args: []string{"8080"}, want: []string{"died: dropped by: iptables -t mangle -A POSTROUTING -o sbr0 -p tcp -j DROP",
				"fix: iptables -t mangle -D POSTROUTING -o sbr0 -p tcp -j DROP", "probe: no answer"}},
		{name: "a rule against answers", change: "iptables -t raw -I PREROUTING -i sbr0 -p tcp -j DROP", undo: "iptables -t raw -D PREROUTING -i sbr0 -p tcp -j DROP",
			args: []string{"8080"}, want: []string{"10.22.0.2:80 > 198.18.", "tcp SYN ACK\n", "died: dropped by: iptables -t raw -A PREROUTING -i sbr0 -p tcp -j DROP", "probe: no answer"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := h.in(t)
			h.sh(c.change)
			r := h.run(append([]string{"boxrun", "trace", "--probe", "web"}, c.args...)...)
			h.sh(c.undo)
			if r.Code != 0 || !inOrder(r.Stdout, c.want) {
				t.Errorf("got %v\nwant in order: %q", r, c.want)
			}
		})
	}
	h.fails(1, []string{"web: does not publish port 99", "hint: boxrun status web"}, "boxrun", "trace", "--probe", "web", "99")
	h.fails(3, []string{`there is neither a box nor a profile named "wep"`}, "boxrun", "trace", "wep")
	h.fails(2, []string{"PORT must be a number"}, "boxrun", "trace", "web", "http")
	h.same(before)
}

// A host port that leads to another port in the box on each address of the host is told of as asked: on each address.
func TestTraceOfAPortOnTwoAddresses(t *testing.T) {
	h := newHost(t)
	h.sh("ip addr add 192.0.2.77/24 dev eth0")
	h.profile("web", strings.Replace(traceProfile, `ports = ["8080:80", "8081:81"]`, `ports = ["192.0.2.77:8080:81", "192.0.2.1:8080:80"]`, 1))
	h.must("boxrun", "up", "web")
	r := h.run("boxrun", "trace", "--probe", "web", "8080")
	probes := []string{" > 192.0.2.77:8080 tcp\n      probe: the connection was refused", " > 192.0.2.1:8080 tcp\n      probe: the connection opened"}
	seen := []string{" > 10.22.0.2:80 tcp SYN\n", "died: nothing listens on 81/tcp in the box"}
	if r.Code != 0 || !inOrder(r.Stdout, probes) || !containsAll(r.Stdout, seen) {
		t.Errorf("got %v\nwant both addresses, with what is behind each", r)
	}
}

// inOrder reports whether words are in text, one after the other.
func inOrder(text string, words []string) bool {
	for _, word := range words {
		_, rest, found := strings.Cut(text, word)
		if !found {
			return false
		}
		text = rest
	}
	return true
}
