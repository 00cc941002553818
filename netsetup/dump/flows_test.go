package dump

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"boxrun/netsetup/nstest"
)

// Of connections alike in all but one thing, that one is forgotten, and one that has ended meanwhile is no error.
func TestForgetFlows(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	const all = `-p tcp -s 192.0.2.1 -d 192.0.2.2 --sport 1000 --dport 80 --state ESTABLISHED
-p tcp -s 192.0.2.1 -d 192.0.2.2 --sport 1001 --dport 80 --state ESTABLISHED
-p udp -s 192.0.2.1 -d 192.0.2.2 --sport 1000 --dport 80
-p udp -s 192.0.2.1 -d 192.0.2.2 --sport 1000 --dport 80 --zone 9
-p udp -s 2001:db8::1 -d 2001:db8::2 --sport 1000 --dport 80
-p udp -s 2001:db8::1 -d 2001:db8::3 --sport 1000 --dport 80`
	for line := range strings.Lines(all) {
		nstest.Shell(t, "conntrack -I -t 300 "+line)
	}
	link, err := netlink.NewHandle()
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	flows := flowsOf(t, link)
	for left := len(strings.Split(all, "\n")); left > 0; left-- {
		first := flows[0]
		for range 2 { // the second time nobody has it
			if err := ForgetFlows(flows[:1]); err != nil {
				t.Fatalf("%v: %v", first, err)
			}
		}
		now := flowsOf(t, link)
		if len(now) != left-1 || slices.ContainsFunc(now, func(f *netlink.ConntrackFlow) bool { return keyOf(f) == keyOf(first) }) {
			t.Fatalf("after %v was forgotten there are %v", first, now)
		}
		flows = now
	}
}

// keyOf has all in which the connections of the test differ.
func keyOf(f *netlink.ConntrackFlow) string {
	return fmt.Sprint(f.Forward.SrcIP, f.Forward.DstIP, f.Forward.SrcPort, f.Forward.Protocol, f.Zone)
}

func flowsOf(t *testing.T, link *netlink.Handle) []*netlink.ConntrackFlow {
	t.Helper()
	flows, err := Flows(link)
	if err != nil {
		t.Fatal(err)
	}
	return flows
}
