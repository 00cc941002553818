package outsider

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"boxrun/netsetup/nstest"
)

// What a killed doctor left is swept; what belongs to a process that lives, or to somebody else, is not.
func TestSweep(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	own := fmt.Sprintf("%s%d", prefix, os.Getpid())
	nstest.Shell(t, `
		ip link add boxrun-d4000000 type veth peer name a; ip link set boxrun-d4000000 alias boxrun:doctor
		ip link add boxrun-d4000001 type veth peer name b
		ip link add `+own+` type veth peer name c; ip link set `+own+` alias boxrun:doctor`)
	swept, err := Sweep()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(swept), "[boxrun-d4000000]"; got != want {
		t.Errorf("swept %s, want %s", got, want)
	}
	got := strings.Fields(nstest.Shell(t, "ip -br link show type veth | cut -d @ -f 1"))
	slices.Sort(got)
	want := []string{"b", "boxrun-d4000001", own, "c"}
	if slices.Sort(want); !slices.Equal(got, want) {
		t.Errorf("left: %q, want %q", got, want)
	}
}

// The host's own packets, and those of a box, reach the client past rules that lead all else into a VPN, and others know the
// host's end again. Nothing of that is left.
func TestOpenBesideAVPN(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	nstest.Shell(t, `
		ip link add vpn0 type veth peer name vpn1; ip link set vpn0 up; ip link set lo up
		ip rule add pref 5210 fwmark 0x80000/0xff0000 lookup main; ip rule add pref 5270 lookup 52; ip route add default dev vpn0 table 52
		ip -6 rule add pref 5270 lookup 52; ip -6 route add default dev vpn0 table 52`)
	routes := func() string {
		return nstest.Shell(t, "ip route show table all; ip -6 route show table all; ip rule; ip -6 rule")
	}
	before := routes()
	o, err := Open(1400)
	if err != nil {
		t.Fatal(err)
	}
	nstest.Shell(t, "ip route replace "+netip.PrefixFrom(o.Addr, 30).Masked().String()+" dev vpn0 table 52") // as Tailscale does
	for _, to := range []string{o.Addr.String(), o.Addr6.String()} {
		if got := nstest.Shell(t, "ip route get "+to); !strings.Contains(got, "dev "+o.Device) {
			t.Errorf("packets for the client go another way: %s", got)
		}
	}
	if got := nstest.Shell(t, "ip -d link show "+o.Device); !strings.Contains(got, "alias boxrun:doctor") {
		t.Errorf("nobody knows the link of a doctor by its alias: %s", got)
	}
	if err := o.Close(); err != nil {
		t.Error(err)
	}
	nstest.Shell(t, "ip route del "+netip.PrefixFrom(o.Addr, 30).Masked().String()+" dev vpn0 table 52")
	if after := routes(); after != before {
		t.Errorf("left: %s\nbefore: %s", after, before)
	}
}

func TestPickAddrs(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	nstest.Shell(t, "ip link add up0 type veth peer name up1; ip link set up0 up; ip route add 198.18.0.0/15 dev up0")
	if o, err := Open(1200); err == nil || !strings.Contains(err.Error(), "198.18.0.0/15") {
		t.Errorf("on a host that routes all of it: got %v, %v, want an error that says so", o, err)
	}
	for _, test := range []struct {
		n    int
		want string
	}{{0, "198.18.0.0/30"}, {1, "198.18.0.4/30"}, {64, "198.18.1.0/30"}, {1 << 14, "198.19.0.0/30"}, {1<<15 - 1, "198.19.255.252/30"}} {
		if got := nthNetwork(benchmark(), test.n).String(); got != test.want {
			t.Errorf("network %d: got %s, want %s", test.n, got, test.want)
		}
	}
}
