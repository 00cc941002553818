package netsetup

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"boxrun/netsetup/nstest"
)

// hear counts the datagrams that come to an address, and prints their number for each line of standard input.
func hear(addr string) {
	conn, err := net.ListenPacket("udp4", addr)
	exitOn(err)
	var heard atomic.Int32
	go func() {
		for buf := make([]byte, 100); ; {
			_, _, err := conn.ReadFrom(buf)
			exitOn(err)
			heard.Add(1)
		}
	}()
	fmt.Println("listening")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		fmt.Println(heard.Load())
	}
}

func TestForgedSourcesNFT(t *testing.T)    { onPackets(t, "nft", testForgedSources) }
func TestForgedSourcesLegacy(t *testing.T) { onPackets(t, "legacy", testForgedSources) }

// forgeries are datagrams with a source that does not belong to the interface they come by. Each rule drops one that
// would arrive without.
var forgeries = []struct {
	name, from, source, to, table, chain, rule string
}{
	{"a client as the box itself", "client", "10.22.0.9", "192.0.2.1:8053", "filter", "BOXRUN-FW-db", "-s 10.22.0.0/16 ! -i sbr0"},
	{"a client as another box", "client", "10.22.0.8", "192.0.2.1:8053", "filter", "BOXRUN-FW-db", "-s 10.22.0.0/16 ! -i sbr0"},
	{"a box as a process of the host", "web", "127.0.0.2", "10.22.0.1:5300", "raw", "BOXRUN-GUARD", "-s 127.0.0.0/8 -i sbr0"},
}

// forgedRules are the rules of forgeries.
func forgedRules() []string {
	var all []string
	for _, f := range forgeries {
		all = append(all, f.rule)
	}
	return all
}

func testForgedSources(t *testing.T, l *lab) {
	db := dbBox()
	db.Ports = append(db.Ports, Port{Host: 8053, Container: 53, Count: 1, Proto: "udp"})
	db.AllowFrom = append(db.AllowFrom, mustPrefix("10.22.0.0/16"))
	l.add(Ports(db))
	nstest.Shell(t, `sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.ext0.rp_filter=0 net.ipv4.conf.sbr0.rp_filter=0
		ip -n client addr add 10.22.0.9/32 dev lo; ip -n client addr add 10.22.0.8/32 dev lo; ip -n web addr add 127.0.0.2/32 dev eth0`)
	ears := map[string]*conversation{}
	for to, cmd := range map[string]*conversation{
		"192.0.2.1:8053": converseWith(t, l.program("hear", "db", "10.22.0.9:53")),
		"10.22.0.1:5300": converseWith(t, l.program("hear", "", "10.22.0.1:5300")),
	} {
		cmd.read(t)
		ears[to] = cmd
	}
	for _, f := range forgeries {
		p := labProbe{f.from, "udp", f.source, f.to}
		before := ears[f.to].ask(t)
		l.expect(p, noAnswer, f.name)
		if heard := ears[f.to].ask(t); heard != before {
			t.Errorf("%s: the datagram arrived", f.name)
		}
		nstest.Shell(t, fmt.Sprintf(`eval iptables -t %[1]s $(iptables -t %[1]s -S %[2]s | grep -e '%[3]s' | sed 's/^-A/-D/')`, f.table, f.chain, f.rule))
		l.expect(p, noAnswer, f.name)
		t.Logf("%s: without the rule %q", f.name, strings.TrimSpace(f.rule))
		nstest.WaitFor(t, func() bool { return ears[f.to].ask(t) != before }) // else no rule is needed
		l.apply()
	}
}
