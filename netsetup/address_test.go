package netsetup

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"boxrun/netsetup/nstest"
)

func mustAddr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func mustPrefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// free is what FreeAddr says, as text; want is an address or empty.
func free(n Network, want string, taken map[netip.Addr]string, dirs ...string) string {
	var wanted netip.Addr
	if want != "" {
		wanted = mustAddr(want)
	}
	addr, err := freeAddr(n, wanted, taken, nil, dirs...)
	if err != nil {
		return err.Error()
	}
	return addr.String()
}

func TestFreeAddr(t *testing.T) {
	root := nstest.Root(t, map[string]string{
		"run/boxrun-sbr0/10.22.0.2":          nstest.Lease(812),
		"run/boxrun-sbr0/last_reserved_ip.0": "10.22.0.5",
		"run/boxrun-sbr0/lock":               "",
		"var/bridge/10.22.0.3":               nstest.Lease(813),
		"var/podman/10.22.0.5":               "36d0b7c0aa57\r\neth0",
		"var/podman/10.22.0.6":               "",
	})
	run, varLib := filepath.Join(root, "run"), filepath.Join(root, "var")
	n := Network{Bridge: "nosuchbridge", Subnet: mustPrefix("10.22.0.0/16")}
	small := Network{Bridge: "nosuchbridge", Subnet: mustPrefix("10.22.0.0/29")}
	taken := map[netip.Addr]string{mustAddr("10.22.0.4"): "db"}
	for _, test := range []struct {
		name  string
		n     Network
		want  string
		taken map[netip.Addr]string
		dirs  []string
		says  string
	}{
		{"first of an empty network", n, "", nil, nil, "10.22.0.2"},
		{"leases of boxrun's and of others", n, "", nil, []string{run, varLib}, "10.22.0.4"},
		{"and of boxes that are starting", n, "", taken, []string{run, varLib}, "10.22.0.7"},
		{"a directory that does not exist", n, "", nil, []string{filepath.Join(root, "none")}, "10.22.0.2"},
		{"wanted and free", n, "10.22.7.7", taken, []string{run, varLib}, "10.22.7.7"},
		{"wanted, a box has it", n, "10.22.0.2", taken, []string{run, varLib}, "address 10.22.0.2 is taken by the box with process 812 (lease RUN/boxrun-sbr0/10.22.0.2)"},
		{"wanted, another runtime has it", n, "10.22.0.5", taken, []string{varLib}, "address 10.22.0.5 is taken by container 36d0b7c0aa57 (lease VAR/podman/10.22.0.5)"},
		{"wanted, it is being leased", n, "10.22.0.6", taken, []string{varLib}, "address 10.22.0.6 is taken by the lease VAR/podman/10.22.0.6"},
		{"wanted, a box is starting with it", n, "10.22.0.4", taken, nil, "address 10.22.0.4 is taken by box \"db\""},
		{"wanted outside", n, "10.23.0.2", nil, nil, "address 10.23.0.2 is outside 10.22.0.0/16, the subnet of nosuchbridge"},
		{"wanted the network", n, "10.22.0.0", nil, nil, "address 10.22.0.0 stands for the whole subnet 10.22.0.0/16"},
		{"wanted the gateway", n, "10.22.0.1", nil, nil, "address 10.22.0.1 is the bridge's own"},
		{"wanted the broadcast address", n, "10.22.255.255", nil, nil, "address 10.22.255.255 is the broadcast address of 10.22.0.0/16"},
		{"last of a small network", small, "", taken, []string{run, varLib}, "no address of 10.22.0.0/29 is free for another box on nosuchbridge"},
		{"small network", small, "", nil, []string{run, varLib}, "10.22.0.4"},
		{"no room for a box", Network{Bridge: "nosuchbridge", Subnet: mustPrefix("10.22.0.0/31")}, "", nil, nil, "no address of 10.22.0.0/31 is free for another box on nosuchbridge"},
		{"last addresses there are", Network{Bridge: "nosuchbridge", Subnet: mustPrefix("255.255.255.248/29")}, "", nil, nil, "255.255.255.250"},
	} {
		t.Run(test.name, func(t *testing.T) {
			says := strings.NewReplacer("RUN", run, "VAR", varLib).Replace(test.says)
			if got := free(test.n, test.want, test.taken, test.dirs...); got != says {
				t.Errorf("got  %s\nwant %s", got, says)
			}
		})
	}
}

// TestFreeAddrAvoidsNeighbours has two boxes on a bridge that no lease tells of.
func TestFreeAddrAvoidsNeighbours(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	n := Network{Bridge: "sbr0", Subnet: mustPrefix("10.22.0.0/29")}
	testBridge(t, n)
	testBox(t, n, "vetha", "10.22.0.2/29")
	testBox(t, n, "vethb", "10.22.0.3/29")
	if got := free(n, "", nil); got != "10.22.0.2" {
		t.Fatalf("before they have spoken: got %s, want 10.22.0.2", got)
	}
	talk(t, "10.22.0.2", "REACHABLE")
	talk(t, "10.22.0.3", "REACHABLE")
	nstest.Run(t, "ip", "neigh", "add", "10.22.0.4", "lladdr", "02:00:00:00:00:04", "dev", "sbr0", "nud", "permanent")
	nstest.Run(t, "ip", "neigh", "add", "10.22.0.5", "lladdr", "02:00:00:00:00:05", "dev", "sbr0", "nud", "stale") // nobody has it
	nstest.Run(t, "ip", "link", "add", "other", "type", "bridge")                                                  // not even if another
	nstest.Run(t, "ip", "link", "add", "vethc", "master", "other", "type", "veth", "peer", "name", "vethd")        // bridge knows the MAC
	nstest.Run(t, "bridge", "fdb", "add", "02:00:00:00:00:05", "dev", "vethc", "master", "static")
	talk(t, "10.22.0.6", "INCOMPLETE") // nobody answers
	if got := free(n, "", nil); got != "10.22.0.5" {
		t.Errorf("got %s, want 10.22.0.5\n%s", got, nstest.Run(t, "ip", "neigh"))
	}
	mac := strings.Fields(nstest.Run(t, "ip", "neigh", "show", "10.22.0.2"))[4]
	if got, want := free(n, "10.22.0.2", nil), "address 10.22.0.2 is taken by a neighbour with MAC address "+mac; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}

	// A quiet box stays in the table as stale; one that went away as well, but its address can be had at once.
	nstest.Run(t, "ip", "neigh", "change", "10.22.0.3", "dev", "sbr0", "nud", "stale")
	nstest.Run(t, "ip", "link", "del", "vetha")
	if state := nstest.Run(t, "ip", "neigh", "show", "10.22.0.2"); !strings.HasSuffix(strings.TrimSpace(state), "REACHABLE") {
		t.Fatalf("the kernel is expected to remember it, but has %q", state)
	}
	got := fmt.Sprint(free(n, "", nil), " ", free(n, "10.22.0.2", nil), " ", free(n, "", map[netip.Addr]string{mustAddr("10.22.0.2"): "db"}))
	if want := "10.22.0.2 10.22.0.2 10.22.0.5"; got != want {
		t.Errorf("after it has gone:\ngot  %s\nwant %s", got, want)
	}
}

// talk sends something to a neighbour and waits until the kernel's entry for it is in a state.
func talk(t *testing.T, addr, state string) {
	t.Helper()
	conn, err := net.Dial("udp", addr+":9")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	nstest.WaitFor(t, func() bool { return strings.Contains(nstest.Run(t, "ip", "neigh", "show", addr), state) })
}

// testBridge makes the bridge of n in the test's namespace. Its MAC address is fixed as boxrun's are: when it changes,
// which it would with the ports, the kernel forgets all neighbours.
func testBridge(t *testing.T, n Network) {
	t.Helper()
	nstest.Run(t, "ip", "link", "add", n.Bridge, "address", "02:00:00:00:00:01", "type", "bridge")
	nstest.Run(t, "ip", "addr", "add", netip.PrefixFrom(n.Gateway(), n.Subnet.Bits()).String(), "dev", n.Bridge)
	nstest.Run(t, "ip", "link", "set", n.Bridge, "up")
}

// testBox makes what stands for a box: a process in a network of its own, with eth0 on the bridge by way of veth.
func testBox(t *testing.T, n Network, veth, addr string) (pid int, stop func()) {
	t.Helper()
	pid, stop = nstest.Sleeper(t, "unshare", "-n", "sleep", "600")
	own := nstest.Run(t, "readlink", "/proc/self/ns/net")
	nstest.WaitFor(t, func() bool { return nstest.Run(t, "readlink", fmt.Sprintf("/proc/%d/ns/net", pid)) != own })
	in := func(argv ...string) {
		nstest.Run(t, append([]string{"nsenter", "-t", fmt.Sprint(pid), "-n", "ip"}, argv...)...)
	}
	nstest.Run(t, "ip", "link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", fmt.Sprint(pid))
	nstest.Run(t, "ip", "link", "set", veth, "up", "master", n.Bridge)
	in("link", "set", "eth0", "up")
	in("addr", "add", addr, "dev", "eth0")
	return pid, stop
}
