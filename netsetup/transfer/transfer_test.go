package transfer

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"boxrun/netsetup/nstest"
)

// A transfer counts packets in each direction by their checksums, and tells what happened to the bytes: as each is broken
// in turn, on a way over a router without connection tracking.
func TestTry(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	nstest.Shell(t, `
		sysctl -qw net.ipv4.ip_forward=1; ip link set lo up
		for n in near far; do ip netns add $n; ip link add $n type veth peer name eth0 netns $n; ip link set $n up; done
		ip addr add 192.0.2.1/24 dev near; ip -n near addr add 192.0.2.2/24 dev eth0
		ip addr add 198.51.100.1/24 dev far; ip -n far addr add 198.51.100.2/24 dev eth0
		ip -n near link set eth0 up; ip -n near route add default via 192.0.2.1
		ip -n far link set eth0 up; ip -n far route add default via 198.51.100.1`)
	const rule = "nft 'add table ip t; add chain ip t f { type filter hook forward priority 0; }; add rule ip t f "
	for _, c := range []struct {
		name, script, undo string
		out, in            kinds // of packets on their arrival
		err                string
		noted              bool
	}{
		{name: "nothing is finished", out: kinds{unfinished: true}, in: kinds{unfinished: true}},
		{name: "out is finished", script: "ip netns exec near ethtool -K eth0 tx off", undo: "ip netns exec near ethtool -K eth0 tx on",
			out: kinds{}, in: kinds{unfinished: true}},
		{name: "in is finished", script: "ip netns exec far ethtool -K eth0 tx off", undo: "ip netns exec far ethtool -K eth0 tx on",
			out: kinds{unfinished: true}, in: kinds{}},
		{name: "out is spoilt", script: "ip netns exec near ethtool -K eth0 tx off; " + rule + "iifname near tcp flags & (syn | psh) == psh tcp checksum set 1'",
			undo: "ip netns exec near ethtool -K eth0 tx on; nft delete table ip t",
			out:  kinds{wrong: true}, in: kinds{unfinished: true}, err: "timeout"},
		{name: "in is spoilt", script: "ip netns exec far ethtool -K eth0 tx off; " + rule + "iifname far tcp flags & (syn | psh) == psh tcp checksum set 1'",
			undo: "ip netns exec far ethtool -K eth0 tx on; nft delete table ip t",
			out:  kinds{unfinished: true}, in: kinds{wrong: true}, err: "timeout"},
		{name: "what has a checksum is dropped", script: rule + "iifname near meta l4proto tcp drop; add rule ip t f iifname near udp checksum != 0 drop'",
			undo: "nft delete table ip t", err: "timeout", noted: true},
		{name: "all is dropped", script: rule + "drop'", undo: "nft delete table ip t", err: "timeout"},
		{name: "refused", script: rule + "iifname near reject with tcp reset'", undo: "nft delete table ip t",
			in: kinds{unfinished: true}, err: "connection refused"},
		{name: "bytes are changed", script: rule + "iifname near tcp flags & (syn | psh) == psh @th,512,16 set 1'", undo: "nft delete table ip t",
			out: kinds{unfinished: true}, in: kinds{unfinished: true}, err: "not those that were sent"},
	} {
		nstest.Shell(t, c.script)
		limit := time.Minute
		if c.err == "timeout" {
			limit = 3 * time.Second
		}
		r := tried(t, limit)
		nstest.Shell(t, c.undo)
		if got := kindsOf(r.Out); got != c.out {
			t.Errorf("%s: out: %+v, want %+v", c.name, r.Out, c.out)
		}
		if got := kindsOf(r.In); got != c.in {
			t.Errorf("%s: in: %+v, want %+v", c.name, r.In, c.in)
		}
		said := ""
		if r.Err != nil {
			said = r.Err.Error()
		}
		if r.Noted != c.noted || c.err == "" && said != "" || !strings.Contains(said, c.err) {
			t.Errorf("%s: got %q, noted %v, want %q and %v", c.name, said, r.Noted, c.err, c.noted)
		}
		if opened := r.Out.Packets() > 0; r.Opened != opened || opened && r.From != netip.MustParseAddr("192.0.2.2") {
			t.Errorf("%s: opened %v, from %v", c.name, r.Opened, r.From)
		}
	}
}

// kinds are the kinds of packets seen. The kernel itself finishes some: resets, and acknowledgements without a socket.
type kinds struct{ unfinished, wrong bool }

func kindsOf(t Tally) kinds { return kinds{t.Unfinished > 0, t.Wrong > 0} }

// tried makes a transfer between the namespaces near and far, within a time.
func tried(t *testing.T, limit time.Duration) Result {
	t.Helper()
	near, nearErr := netns.GetFromName("near")
	far, farErr := netns.GetFromName("far")
	if nearErr != nil || farErr != nil {
		t.Fatal(nearErr, farErr)
	}
	defer func() { _, _ = near.Close(), far.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	r, err := Try(ctx, Network{near, "eth0"}, Network{far, "eth0"}, netip.MustParseAddr("198.51.100.2"), 256<<10)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
