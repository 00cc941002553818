package dump

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"boxrun/netsetup/nstest"
)

func TestMain(m *testing.M) { os.Exit(nstest.Main(m)) }

func TestTypesOfRules(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	nstest.Shell(t, `ip rule add lookup 100 pref 100; ip rule add prohibit pref 101; ip rule add unreachable pref 102
		ip rule add blackhole pref 103; ip rule add nop pref 104; ip rule add l3mdev pref 105; ip rule add goto 32766 pref 106
		ip rule add ipproto tcp sport 80 dport 1000-2000 lookup 100 pref 108`)
	addDSCP(t, 107)
	rules, err := Rules(OfHost(), netlink.FAMILY_V4)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range rules {
		got = append(got, fmt.Sprint(r.Priority, " ", r.Type))
	}
	const goesTo = 2 // FR_ACT_GOTO of linux/fib_rules.h
	want := fmt.Sprintf("0 1, 100 1, 101 %d, 102 %d, 103 %d, 104 %d, 105 %d, 106 %d, 107 %d, 108 1, 32766 1, 32767 1",
		unix.RTN_PROHIBIT, unix.RTN_UNREACHABLE, unix.RTN_BLACKHOLE, Nop, VRF, goesTo, Beyond)
	if got := strings.Join(got, ", "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// addDSCP adds a rule for a code point of differentiated services, which neither package netlink nor an older ip(8) can.
func addDSCP(t *testing.T, priority uint32) {
	t.Helper()
	const dscp, toTable = 25, 1 // FRA_DSCP, FR_ACT_TO_TBL of linux/fib_rules.h
	request := nl.NewNetlinkRequest(unix.RTM_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	request.AddData(&nl.RtMsg{RtMsg: unix.RtMsg{Family: unix.AF_INET, Type: toTable, Table: 100}})
	request.AddData(nl.NewRtAttr(nl.FRA_PRIORITY, nl.Uint32Attr(priority)))
	request.AddData(nl.NewRtAttr(dscp, []byte{10}))
	if _, err := request.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		t.Fatal(err)
	}
}
