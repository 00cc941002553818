package trace

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"boxrun/launcher/box"
	"boxrun/launcher/testkit"
	"boxrun/profiles"
	"boxrun/profiles/port"
)

func TestParsePacket(t *testing.T) {
	ip := func(proto, fragment byte) []byte {
		return []byte{0x45, 0, 0, 40, 0, 0, 0, fragment, 64, proto, 0, 0, 192, 0, 2, 2, 10, 22, 0, 2}
	}
	ip6 := func(next byte) []byte {
		src, dst := netip.MustParseAddr("2001:db8::2"), netip.MustParseAddr("fd42::2")
		return slices.Concat([]byte{0x60, 0, 0, 0, 0, 20, next, 64}, src.AsSlice(), dst.AsSlice())
	}
	ports := []byte{0x9c, 0x40, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x12, 0, 0}
	for name, c := range map[string]struct {
		ip, transport []byte
		want          string // "" for none
	}{
		"tcp":              {ip(6, 0), ports, "192.0.2.2:40000 > 10.22.0.2:80 tcp SYN ACK"},
		"udp":              {ip(17, 0), ports, "192.0.2.2:40000 > 10.22.0.2:80 udp"},
		"icmp":             {ip(1, 0), ports, "192.0.2.2 > 10.22.0.2 icmp"},
		"another protocol": {ip(47, 0), ports, "192.0.2.2 > 10.22.0.2 protocol 47"},
		"a later fragment": {ip(17, 1), ports, "192.0.2.2 > 10.22.0.2 udp"},
		"cut short":        {ip(6, 0), ports[:3], "192.0.2.2 > 10.22.0.2 tcp"},
		"no header":        {nil, nil, ""},
		"IPv6":             {ip6(6), ports, "[2001:db8::2]:40000 > [fd42::2]:80 tcp SYN ACK"},
		"ICMP of IPv6":     {ip6(58), ports, "2001:db8::2 > fd42::2 icmpv6"},
		"half of IPv6":     {ip6(6)[:20], ports, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			if p, ok := parsePacket(c.ip, c.transport); ok {
				got = p.String()
			}
			testkit.WantText(t, got, c.want)
		})
	}
}

func traced(src, dst, proto string) packet {
	return packet{src: netip.MustParseAddrPort(src), dst: netip.MustParseAddrPort(dst), proto: proto}
}

func TestLike(t *testing.T) {
	first, again := traced("192.0.2.2:40000", "10.22.0.2:80", "tcp"), traced("192.0.2.2:40001", "10.22.0.2:80", "tcp")
	testkit.WantText(t, first.like(), again.like())
	if answer := traced("10.22.0.2:80", "192.0.2.2:40000", "tcp"); answer.like() == first.like() {
		t.Errorf("a packet and its answer are alike: %s", first.like())
	}
}

func webBox() *box.Box {
	b := &box.Box{Name: "web", Addr: netip.MustParseAddr("10.22.0.2"), Profile: profiles.Default()}
	b.Profile.Name, b.Profile.File = "web", "/etc/boxrun/profiles/web.toml"
	b.Profile.Network.Ports = []port.Port{
		{Host: 8080, Container: 80, Count: 2, Proto: "tcp"}, {Host: 53, Container: 53, Count: 1, Proto: "udp", HostIP: netip.MustParseAddr("192.0.2.1")},
	}
	b.Init.PID = os.Getpid()
	return b
}

func TestScope(t *testing.T) {
	for _, c := range []struct {
		src, dst, proto string
		all, port       bool // for the box, and for its port 8081
	}{
		{"192.0.2.2:40000", "10.22.0.2:81", "tcp", true, true},
		{"192.0.2.2:40000", "10.22.0.2:80", "tcp", true, false},
		{"10.22.0.2:81", "192.0.2.2:40000", "tcp", true, true},
		{"10.22.0.2:40000", "192.0.2.2:443", "tcp", true, false},
		{"192.0.2.2:40000", "192.0.2.1:8081", "tcp", true, true},
		{"192.0.2.2:40000", "192.0.2.1:8080", "tcp", true, false},
		{"192.0.2.2:40000", "192.0.2.1:8081", "udp", false, false},
		{"192.0.2.2:40000", "192.0.2.1:8082", "tcp", false, false},
		{"192.0.2.2:40000", "192.0.2.7:8081", "tcp", false, false}, // to another host
		{"192.0.2.2:40000", "192.0.2.1:53", "udp", true, false},
		{"192.0.2.2:40000", "127.0.0.1:53", "udp", false, false}, // published on 192.0.2.1 alone
		{"192.0.2.2:40000", "10.22.0.3:80", "tcp", false, false},
		{"[2001:db8::2]:40000", "[fd42::2]:81", "tcp", true, true},
		{"[fd42::2]:40000", "[2001:db8::2]:443", "tcp", true, false},
		{"[2001:db8::2]:40000", "[2001:db8::1]:8081", "tcp", true, true},
		{"[2001:db8::2]:40000", "[2001:db8::1]:53", "udp", false, false}, // published on 192.0.2.1 alone
	} {
		for port, want := range map[uint16]bool{0: c.all, 8081: c.port} {
			s, err := newScope(webBox(), port)
			if err != nil {
				t.Fatal(err)
			}
			s.host = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("2001:db8::1")}
			s.box = append(s.box, netip.MustParseAddr("fd42::2"))
			if got := s.covers(traced(c.src, c.dst, c.proto)); got != want {
				t.Errorf("port %d: %s > %s %s: got %v, want %v", port, c.src, c.dst, c.proto, got, want)
			}
		}
	}
}

// A host port leads to another port in the box at each address: a packet is of both, and what is behind depends on the
// address.
func TestScopeOfAPortOnTwoAddresses(t *testing.T) {
	one, two := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.1")
	b := webBox()
	b.Profile.Network.Ports = []port.Port{
		{Host: 8080, Container: 80, Count: 1, Proto: "tcp", HostIP: one}, {Host: 8079, Container: 90, Count: 2, Proto: "tcp", HostIP: two},
	}
	s, err := newScope(b, 8080)
	if err != nil {
		t.Fatal(err)
	}
	s.host = []netip.Addr{one, two}
	for to, want := range map[string]bool{
		"10.22.0.2:80": true, "10.22.0.2:91": true, "10.22.0.2:90": false, "192.0.2.1:8080": true, "198.51.100.1:8080": true, "198.51.100.1:8079": false,
	} {
		if got := s.covers(traced("192.0.2.2:40000", to, "tcp")); got != want {
			t.Errorf("a packet to %s: covered is %v, want %v", to, got, want)
		}
	}
	j := judge{Box: b, box: b.Addrs()}
	for on, want := range map[string]string{"192.0.2.1:8080": "10.22.0.2:80", "198.51.100.1:8080": "10.22.0.2:91", "198.51.100.1:8079": "10.22.0.2:90"} {
		testkit.WantText(t, j.behind(netip.MustParseAddrPort(on), "tcp").String(), want)
	}
}

func TestSymbolAt(t *testing.T) {
	const text = "ffffffff81000000 T _text\nffffffff81000100 t one\nffffffff81000180 d data\nffffffff81000200 T two\n"
	for address, want := range map[uint64]string{0xffffffff81000100: "one", 0xffffffff810001ff: "one", 0xffffffff81000200: "two", 1: ""} {
		testkit.WantText(t, symbolAt(text, address), want)
	}
	testkit.WantText(t, symbolAt("0000000000000000 T hidden\n", 0xffffffff81000100), "")
}

// What the launcher itself cannot provoke is told in words as well.
func TestSentences(t *testing.T) {
	j := judge{Box: webBox(), symbols: symbols{}}
	j.Profile.Network.Offload = "off"
	j.box = j.Addrs()
	for reason, want := range map[string]string{
		"TCP_CSUM":     "its checksum is wrong: left to a network card that did not fill it in, or the packet was damaged; boxrun doctor --fix",
		"FULL_RING":    "the queue of a device (tun, tap, veth) is full: whoever reads from it does not keep up; boxrun status web",
		"IP_RPFILTER":  "rp_filter: it came by lo, and an answer to 192.0.2.2 would leave by another interface; sysctl -w net.ipv4.conf.lo.rp_filter=2",
		"NEIGH_FAILED": "nobody on the wire answers for the way to 10.22.0.2 (ARP); ip neigh show 10.22.0.2",
		"NEVER_HEARD":  "the kernel's reason is NEVER_HEARD; ",
	} {
		text, fix := j.sentence(drop{packet: traced("192.0.2.2:40000", "10.22.0.2:80", "tcp"), reason: reason})
		testkit.WantText(t, text+"; "+fix, want)
	}
	j.Profile.Network.Offload = "keep"
	if _, fix := j.sentence(drop{reason: "TCP_CSUM"}); !strings.Contains(fix, `set network.offload = "off" in /etc/boxrun/profiles/web.toml`) {
		t.Errorf("got %q", fix)
	}
}

// A reason that no kernel knows would be a slip of the pen. Older kernels do not know all.
func TestReasonsAreTheKernels(t *testing.T) {
	l, err := readLayout()
	if errors.Is(err, errNoReasons) {
		testkit.Cannot(t, "%v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("reasons.go")
	if err != nil {
		t.Fatal(err)
	}
	var known []string
	for _, name := range l.reasons {
		known = append(known, name)
	}
	if !slices.Contains(known, "RECURSION_LIMIT") {
		t.Skip("an older kernel")
	}
	for _, m := range regexp.MustCompile(`"([A-Z][A-Z0-9_]{4,})"`).FindAllStringSubmatch(string(source), -1) {
		if !slices.Contains(known, m[1]) {
			t.Errorf("the kernel has no reason %s", m[1])
		}
	}
}

// The kernel takes the program, and hands on drops of both families.
func TestDropsOfBothFamilies(t *testing.T) {
	if os.Getuid() != 0 {
		testkit.Cannot(t, "root alone may load the program")
	}
	hosts := []netip.Addr{netip.MustParseAddr("127.0.0.9"), netip.MustParseAddr("::1")}
	w, err := watchDrops(filter{addrs: hosts, connections: true})
	if errors.Is(err, errNoReasons) {
		testkit.Cannot(t, "%v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	time.AfterFunc(5*time.Second, w.close)
	for _, host := range hosts {
		const closed = 9
		if conn, err := net.DialTimeout("tcp", netip.AddrPortFrom(host, closed).String(), time.Second); err == nil {
			conn.Close()
			t.Fatalf("somebody listens at %s", conn.RemoteAddr())
		}
		for d := (drop{}); d.dst.Addr() != host || d.reason != "NO_SOCKET"; {
			if d, err = w.next(); err != nil {
				t.Fatalf("no drop of a packet to %s: %v", host, err)
			}
		}
	}
}
