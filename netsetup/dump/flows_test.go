package dump

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"boxrun/netsetup/nstest"
)

// The kernel's text tells the same connections as the list: each family and protocol, zones, translated ones, and those
// without ports. A kernel without the text leaves the list.
func TestFewFlows(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	const all = `-p tcp -s 192.0.2.1 -d 192.0.2.2 --sport 1000 --dport 80 --state ESTABLISHED --dst-nat 10.22.0.2:8080
-p udp -s 192.0.2.1 -d 192.0.2.2 --sport 1000 --dport 80 --zone 9
-p udp -s 2001:db8::1 -d 2001:db8::2 --sport 1000 --dport 80
-p icmp -s 192.0.2.1 -d 192.0.2.2 --icmp-type 8 --icmp-code 0 --icmp-id 7
-p sctp -s 192.0.2.1 -d 192.0.2.2 --sport 1 --dport 65535 --state ESTABLISHED --orig-vtag 1 --reply-vtag 2`
	for line := range strings.Lines(all) {
		nstest.Shell(t, "conntrack -I -t 300 "+line)
	}
	listed, err := listedFlows()
	if err != nil || len(listed) != 5 {
		t.Fatal(listed, err)
	}
	told, few := fewFlows()
	if _, err := os.Stat("/proc/net/nf_conntrack"); err != nil {
		if few {
			t.Fatalf("without a text: %v", told)
		}
		return
	}
	if got, want := wholeKeys(told), wholeKeys(listed); !few || !slices.Equal(got, want) {
		t.Errorf("the text tells\n%s\nthe list\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// wholeKeys has all of connections that anybody asks for, in order.
func wholeKeys(flows []*netlink.ConntrackFlow) []string {
	var keys []string
	for _, f := range flows {
		keys = append(keys, fmt.Sprint(f.FamilyType, f.Forward, f.Reverse, f.Zone))
	}
	slices.Sort(keys)
	return keys
}

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
-p udp -s 2001:db8::1 -d 2001:db8::3 --sport 1000 --dport 80
-p sctp -s 192.0.2.1 -d 192.0.2.2 --sport 1000 --dport 80 --state ESTABLISHED --orig-vtag 1 --reply-vtag 2`
	for line := range strings.Lines(all) {
		nstest.Shell(t, "conntrack -I -t 300 "+line)
	}
	flows := flowsOf(t)
	for left := len(strings.Split(all, "\n")); left > 0; left-- {
		first := flows[0]
		for range 2 { // the second time nobody has it
			if err := ForgetFlows(flows[:1]); err != nil {
				t.Fatalf("%v: %v", first, err)
			}
		}
		now := flowsOf(t)
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

func flowsOf(t *testing.T) []*netlink.ConntrackFlow {
	t.Helper()
	flows, err := Flows()
	if err != nil {
		t.Fatal(err)
	}
	return flows
}
