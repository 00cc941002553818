package outsider

import (
	"fmt"
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
