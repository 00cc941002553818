package e2e

import (
	"bufio"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"boxrun/e2e/testhost"
	"boxrun/launcher/doctor"
)

// The box "all" publishes in every way there is; in the image probe answers on tcp 7000 and 9000-9010, and on udp 5300.
// The box "few" lets only one address reach it.
const (
	allProfile = `
image = "/srv/web"
[network]
ports = ["7000", "17000:7000", "9000-9010", "19000-19010:9000-9010", "5300/udp", "15300:5300/udp",
         "192.0.2.10:7010:7000", "127.0.0.1:7020:7000"]
[storage]
binds = ["/usr/local/bin/probe:/usr/local/bin/probe:ro"]
[ready]
tcp = [7000]
`
	fewProfile = `
image = "/srv/web"
[network]
ports = ["27000:7000", "25300:5300/udp"]
allow_from = ["192.0.2.3/32", "2001:db8:7::3/128"]
[storage]
binds = ["/usr/local/bin/probe:/usr/local/bin/probe:ro"]
[ready]
tcp = [7000]
`
)

// reachHost boots a host with both boxes up, published in both families, and two addresses of each family on the host.
func reachHost(t *testing.T) (h host, all, few string) {
	h = newHost(t)
	h.profile("all", allProfile)
	h.profile("few", fewProfile)
	h.twice()
	h.must("boxrun", "up", "all", "few")
	list := boxes(h)
	return h, list[0].Address, list[1].Address
}

// asker runs probe somewhere. One that cannot be run is no answer, with the reason on stderr.
type asker func(args ...string) testhost.Result

func (h host) askers() map[string]asker {
	somewhere := func(run func(context.Context, ...string) (testhost.Result, error), argv ...string) asker {
		return func(args ...string) testhost.Result {
			ctx, cancel := context.WithTimeout(h.t.Context(), patience)
			defer cancel()
			r, err := run(ctx, slices.Concat(argv, args)...)
			if err != nil {
				return testhost.Result{Code: -1, Stderr: err.Error()}
			}
			return r
		}
	}
	return map[string]asker{
		"client":  somewhere(h.Client, h.probe),
		"host":    somewhere(h.Exec, "probe"),
		"box all": somewhere(h.Exec, "boxrun", "exec", "all", "--", "probe"),
		"box few": somewhere(h.Exec, "boxrun", "exec", "few", "--", "probe"),

		"box apart": somewhere(h.Exec, "boxrun", "exec", "apart", "--", "probe"),
	}
}

// serve starts probe somewhere with argv, until the test ends, and returns when it listens.
func (h host) serve(argv ...string) {
	h.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := h.Command(ctx, argv...)
	if argv[0] == h.probe {
		cmd = h.ClientCommand(ctx, argv...)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { cancel(); _ = cmd.Wait() })
	timeout := time.AfterFunc(10*time.Second, cancel)
	defer timeout.Stop()
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		h.t.Fatalf("%s: got %q, %v, want it to listen", strings.Join(argv, " "), line, err)
	}
}

// question is one connection attempt; answer is part of what has to come back, "" where none may.
type question struct {
	from, network, address, answer string
}

// ask puts all questions, many at once as those without an answer take their time, and wants their answers.
func (h host) ask(questions []question) {
	h.t.Helper()
	askers := h.askers()
	results := make([]testhost.Result, len(questions))
	var asked sync.WaitGroup
	atOnce := make(chan struct{}, 16)
	for i, q := range questions {
		atOnce <- struct{}{}
		asked.Go(func() { results[i] = askers[q.from](q.network, q.address); <-atOnce })
	}
	asked.Wait()
	for i, q := range questions {
		r := results[i]
		if got := r.Code == 0; got != (q.answer != "") || !strings.Contains(r.Stdout, q.answer) {
			h.t.Errorf("%s to %s %s: %v\nwant %s", q.from, q.network, q.address, r, wanted(q.answer))
		}
	}
}

func wanted(answer string) string {
	if answer == "" {
		return "no answer"
	}
	return fmt.Sprintf("%q", answer)
}

// otherLink gives the host an interface with an address of each family, to which the client goes by the host.
func (h host) otherLink() {
	h.t.Helper()
	h.sh("ip link add other0 type bridge; ip addr add 203.0.113.1/24 dev other0; ip addr add 2001:db8:9::1/64 dev other0 nodad; ip link set other0 up")
	h.client("sh", "-c", "ip route add 203.0.113.0/24 via 192.0.2.1; ip route add 2001:db8:9::/64 via 2001:db8:7::1")
}

// With external a box is published on the addresses of that interface, whose mtu it has, and on no other: neither on
// 127.0.0.1 nor on those of another interface.
func TestExternalNamesTheInterface(t *testing.T) {
	h := newHost(t)
	h.twice()
	h.sh("ip link set eth0 mtu 1400")
	h.otherLink()
	h.profile("all", strings.Replace(allProfile, "[network]", "[network]\nexternal = \"eth0\"", 1))
	h.profile("few", strings.Replace(strings.Replace(fewProfile, "[network]", "[network]\nexternal = \"other0\"", 1), "allow_from", "# ", 1))
	// What listens on other addresses is in nobody's way.
	h.serve("probe", "serve", "host", "tcp/127.0.0.1:7000", "tcp/203.0.113.1:7000", "udp/127.0.0.1:5300", "tcp/192.0.2.1:27000",
		"tcp/[::1]:7000", "tcp/[2001:db8:9::1]:7000", "tcp/[2001:db8:7::1]:27000")
	h.must("boxrun", "up", "all") // the first on the bridge, which has the MTU of its interface
	h.must("boxrun", "up", "few")
	h.profile("local", "image = \"/srv/web\"\n[network]\nports = [\"127.0.0.1:17000:80\"]\n")
	h.must("boxrun", "up", "local")
	h.profile("both", "image = \"/srv/web\"\n[network]\nports = [\"27000:80\"]\n")
	h.refuses(1, []string{"27000/tcp", `box "few"`}, "boxrun", "up", "both")
	h.inEach([]question{
		{"client", "tcp", "192.0.2.1:7000", "box on"},
		{"client", "tcp", "192.0.2.10:7000", "box on"},
		{"client", "tcp", "203.0.113.1:7000", "host on"},
		{"client", "tcp", "203.0.113.1:27000", "box on"}, // by way of another interface: the address counts
		{"client", "tcp", "192.0.2.1:27000", "host on"},
		{"host", "tcp", "192.0.2.1:7000", "box on"},
	})
	h.ask([]question{
		{"host", "tcp", "127.0.0.1:7000", "host on"},
		{"host", "tcp", "[::1]:7000", "host on"},
		{"host", "tcp", "127.0.0.1:7020", "box on"}, // a port with an address of its own keeps that
	})
	if got := h.must("boxrun", "exec", "all", "--", "cat", "/sys/class/net/eth0/mtu"); got != "1400\n" {
		t.Errorf("the box's mtu is %s, want that of the interface, 1400", strings.TrimSpace(got))
	}
}

// With bridge-nf-call-iptables, as Docker and Kubernetes set it, packets between ports of one bridge pass iptables too.
func TestHairpinWithBridgeNetfilter(t *testing.T) {
	h := newHost(t)
	if h.run("test", "-e", "/proc/sys/net/bridge/bridge-nf-call-iptables").Code != 0 {
		cannot(t, "this kernel has no br_netfilter")
	}
	h.sh("sysctl -qw net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1")
	h.twice()
	h.profile("all", allProfile)
	h.profile("few", fewProfile)
	h.must("boxrun", "up", "all", "few")
	h.inEach([]question{
		{"box all", "tcp", "192.0.2.1:7000", "box on"},
		{"box few", "tcp", "192.0.2.1:7000", "box on"},
		{"box few", "tcp", "192.0.2.1:27000", "box on"},
		{"client", "tcp", "192.0.2.1:7000", "box on"},
	})
}

// lanRoutesLoopback makes a neighbour that sends packets for 127.0.0.1 to its gateway, on the client or in a box.
const lanRoutesLoopback = `for device in all eth0; do echo 1 > /proc/sys/net/ipv4/conf/$device/route_localnet; done
ip addr del 127.0.0.1/8 dev lo
ip route add 127.0.0.1/32 via %s`

// A port of the host's 127.0.0.1, published or a service's, is no neighbour's, whatever it routes to us: neither of one on
// the LAN nor of a box. That the way is open otherwise is shown first, with a service, and with the guard taken away.
func TestLoopbackIsNobodyElses(t *testing.T) {
	h, _, _ := reachHost(t)
	h.serve("probe", "serve", "host", "tcp/127.0.0.1:6000")
	h.sh("sysctl -qw net.ipv4.conf.eth0.route_localnet=1 net.ipv4.conf.eth0.rp_filter=0 net.ipv4.conf.all.rp_filter=0")
	h.client("ip", "netns", "exec", h.Name()+"-c", "sh", "-c", fmt.Sprintf(lanRoutesLoopback, testhost.HostAddr))
	h.ask([]question{
		{"client", "tcp", "127.0.0.1:6000", "host on 127.0.0.1:6000"},
		{"client", "tcp", "127.0.0.1:7020", ""},
		{"client", "tcp", "127.0.0.1:7000", ""},
	})
	gateway := strings.TrimSpace(h.must("boxrun", "exec", "few", "--", "sh", "-c", "ip route show default | cut -d ' ' -f 3"))
	h.must("boxrun", "exec", "few", "--", "sh", "-c", fmt.Sprintf(lanRoutesLoopback, gateway))
	h.ask([]question{{"box few", "tcp", "127.0.0.1:6000", ""}})
	h.must("iptables", "-t", "raw", "-F", "BOXRUN-GUARD")
	h.ask([]question{{"box few", "tcp", "127.0.0.1:6000", "host on 127.0.0.1:6000"}})
	h.must("boxrun", "up", "few")
	h.ask([]question{{"box few", "tcp", "127.0.0.1:6000", ""}})

	// The kernel itself takes no packet for ::1 from outside, and nothing is published there.
	h.serve("probe", "serve", "host", "tcp/[::1]:6000")
	const routes6 = "ip -6 addr del ::1/128 dev lo; ip -6 route add ::1/128 via "
	h.client("sh", "-c", routes6+"2001:db8:7::1")
	h.must("boxrun", "exec", "few", "--", "sh", "-c", routes6+"$(ip -6 route show default | cut -d ' ' -f 3)")
	h.ask([]question{
		{"host", "tcp", "[::1]:6000", "host on [::1]:6000"},
		{"client", "tcp", "[::1]:6000", ""},
		{"client", "tcp", "[::1]:7000", ""},
		{"box few", "tcp", "[::1]:6000", ""},
		{"box few", "tcp", "[::1]:7000", ""},
	})
}

// A flow that was let in does not outlive the box it went to.
func TestEstablishedFlowsEndWithTheBox(t *testing.T) {
	h, _, _ := reachHost(t)
	flow := []question{{"client", "udp", "192.0.2.1:15300", "box on"}}
	for range 2 { // the second round finds no entries of the first
		h.inEach(flow)
		h.must("boxrun", "restart", "all")
		for _, f := range []string{"ipv4", "ipv6"} {
			if got := h.must("sh", "-c", "conntrack -L -f "+f+" -p udp 2> /dev/null | grep -c dport=15300 || true"); got != "0\n" {
				t.Errorf("%s: %s flows to the old box are tracked still", f, strings.TrimSpace(got))
			}
		}
	}
	h.inEach(flow)
}

func TestTwoBoxesAtOnce(t *testing.T) {
	h, all, few := reachHost(t)
	if all == few {
		t.Errorf("both boxes have %s", all)
	}
	h.must("boxrun", "down", "all")
	h.inEach([]question{{"host", "tcp", "127.0.0.1:27000", "box on " + few}, {"host", "tcp", "192.0.2.1:27000", "box on"}, {"client", "tcp", "192.0.2.1:7000", ""}})
	h.must("boxrun", "up", "all")
	h.inEach([]question{{"client", "tcp", "192.0.2.1:7000", "box on"}, {"box all", "tcp", few + ":7000", "box on " + few + ":"}})
}

// Boxes on different bridges reach what the others publish, and nothing else of each other.
func TestBridgesAreApart(t *testing.T) {
	h, all, few := reachHost(t)
	h.profile("apart", strings.NewReplacer("[network]", "[network]\nbridge = \"sbr1\"\nsubnet = \"10.23.0.0/16\"", "27000", "37000", "25300", "35300",
		"allow_from", "# ").Replace(fewProfile))
	h.must("boxrun", "up", "apart")
	apart := boxes(h)[1].Address
	for _, policy := range []string{"ACCEPT", "DROP"} {
		h.sh("iptables -P FORWARD " + policy + "; ip6tables -P FORWARD " + policy)
		h.inEach([]question{
			{"box apart", "tcp", all + ":7000", ""},
			{"box apart", "udp", all + ":5300", ""},
			{"box few", "tcp", apart + ":7000", ""},
			{"box few", "tcp", all + ":7000", "box on " + all + ":7000"},
			{"box apart", "tcp", "192.0.2.1:7000", "box on " + all + ":7000"},
			{"box apart", "tcp", "192.0.2.1:27000", ""}, // allow_from is another
			{"box few", "tcp", "192.0.2.1:37000", "box on " + apart + ":7000"},
			{"host", "tcp", few + ":7000", "box on " + few + ":7000"},
		})
	}
}

// A box that comes back has another device behind the same address, on a bridge that another box has kept up: what the
// host remembers of its neighbours must not be in the way for half a minute.
func TestRestartBesideAnotherBoxIsQuick(t *testing.T) {
	h, _, _ := reachHost(t)
	for range 2 {
		h.inEach([]question{{"client", "tcp", "192.0.2.1:7000", "box on"}})
		start := time.Now()
		h.must("boxrun", "restart", "all")
		if took := time.Since(start); took > promised(5*time.Second) {
			t.Errorf("restart took %v", took)
		}
	}
}

// A raw Apptainer instance on the bridge that Apptainer's own configuration names is not disturbed, and keeps its address.
func TestRawInstancesShareTheBridge(t *testing.T) {
	h := newHost(t)
	h.sh("apptainer instance start --boot --writable-tmpfs --bind /sys/fs/cgroup --net --network bridge --network-args portmap=8080:80/tcp /srv/web raw")
	page := func() string {
		return h.client("curl", "-sS", "-m", "5", "--retry", "20", "--retry-delay", "1", "--retry-connrefused", "http://192.0.2.1:8080/")
	}
	want := page()
	rules := strangers(h)
	h.must("boxrun", "up", "web")
	raw := h.sh(`apptainer instance list -j | jq -r '.instances[] | select(.instance == "raw").ip'`)
	if strings.TrimSpace(raw) == boxes(h)[0].Address {
		t.Errorf("the box has the address of the raw instance, %s", raw)
	}
	h.page()
	if got := page(); got != want {
		t.Errorf("the raw instance answers %q, want %q", got, want)
	}
	h.must("boxrun", "down", "web")
	if got := page(); got != want {
		t.Errorf("after down the raw instance answers %q, want %q", got, want)
	}
	if got := strangers(h); got != rules {
		t.Errorf("got rules\n%s\nwant\n%s", got, rules)
	}
}

// What is published on an address that the host has not is said so, by up and by doctor, and works once it has it.
func TestPortsOnAddressesTheHostHasNot(t *testing.T) {
	h := newHost(t)
	h.six()
	h.otherLink()
	h.sh("ip addr flush dev other0")
	h.profile("away", "image = \"builtin:hello\"\n[network]\nports = [\"192.0.2.99:8088:80\", \"192.0.2.99:8089:80\", \"127.0.0.2:8090:80\",\n"+
		"\"[2001:db8:7::99]:8092:80\"]\n")
	h.profile("bare", "image = \"builtin:hello\"\n[network]\nexternal = \"other0\"\nports = [\"8091:80\"]\n")
	h.profile("shared", hostProfile("builtin:hello", `ports = ["192.0.2.98:80:80"]`))
	const missing, bare, shared = "no interface of this host has 192.0.2.99 now", "other0 has no address now", "no interface of this host has 192.0.2.98 now"
	r := h.run("boxrun", "up", "away", "bare", "shared")
	const missing6 = "no interface of this host has 2001:db8:7::99 now"
	if r.Code != 0 || !containsAll(r.Stderr, []string{missing, missing6, bare, shared}) || strings.Contains(r.Stderr, "127.0.0.2 now") {
		t.Errorf("up: %v\nwant a warning of each missing address", r)
	}
	checks := h.checks()
	h.finds(checks, doctor.Fail, "8088/tcp dnat", missing)
	h.finds(checks, doctor.Fail, "8092/tcp IPv6 dnat", missing6)
	h.finds(checks, doctor.Fail, "8091/tcp dnat", bare)
	h.finds(checks, doctor.Fail, "192.0.2.98:80/tcp listens", shared)
	h.finds(checks, doctor.Skip, "8088/tcp connection", "no address")
	if r := h.run("curl", "-sS", "-m", "2", "http://192.0.2.1:8091/"); r.Code == 0 {
		t.Errorf("what external publishes on no address answers on another: %v", r)
	}
	h.must("curl", "-sS", "-m", "5", "http://127.0.0.2:8090/")
	h.sh("ip addr add 192.0.2.98/24 dev eth0; ip addr add 192.0.2.99/24 dev eth0; ip addr add 203.0.113.1/24 dev other0; " +
		"ip addr add 2001:db8:7::99/64 dev eth0 nodad; ip addr add 2001:db8:9::1/64 dev other0 nodad")
	if r := h.run("boxrun", "up", "away", "bare", "shared"); r.Code != 0 || strings.Contains(r.Stderr, " now") && !strings.Contains(r.Stderr, "other0 has now") {
		t.Errorf("up when the host has them: %v\nwant no warning", r)
	}
	for _, url := range []string{"http://192.0.2.99:8088/", "http://203.0.113.1:8091/", "http://[2001:db8:7::99]:8092/", "http://[2001:db8:9::1]:8091/"} {
		h.client("curl", "-gsS", "-m", "5", url)
	}
}

// A host with IPv6 alone publishes there, and says who reaches a port of a box of IPv4 alone: nobody else.
func TestHostWithoutIPv4(t *testing.T) {
	h := newHost(t)
	h.sh("ip -4 addr flush dev eth0")
	h.six()
	h.tells([]string{"on ALL addresses of the host"}, "boxrun", "up", "web")
	if got := h.client("curl", "-gsS", "-m", "5", "http://[2001:db8:7::1]/"); !strings.Contains(got, sixPage) {
		t.Errorf("the client got %q by IPv6", got)
	}
	h.must("boxrun", "down", "web")
	h.sh(`sed -i 's/^\[network\]/&\nsubnet6 = ""/' /etc/boxrun/profiles/web.toml`)
	r := h.run("boxrun", "up", "web")
	if want := "from this host only: it has no other IPv4 address"; r.Code != 0 || !strings.Contains(r.Stdout+r.Stderr, want) ||
		!strings.Contains(h.must("boxrun", "status", "web"), want) {
		t.Errorf("up: %v, want %q", r, want)
	}
	h.must("curl", "-sS", "-m", "5", "http://127.0.0.1/")
}
