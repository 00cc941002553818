package netsetup

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"boxrun/netsetup/nstest"
)

func TestBoxLink(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	n := Network{Bridge: "sbr0", Subnet: mustPrefix("10.22.0.0/16")}
	testBridge(t, n)
	pid, stop := testBox(t, n, "vetha", "10.22.0.7/16")
	in := func(argv ...string) {
		t.Helper()
		nstest.Run(t, append([]string{"nsenter", "-t", fmt.Sprint(pid), "-n", "ip"}, argv...)...)
	}
	index := strings.SplitN(nstest.Run(t, "ip", "-o", "link", "show", "vetha"), ":", 2)[0]
	link := func() string {
		l, err := BoxLink(pid, "eth0")
		if err != nil {
			return strings.ReplaceAll(err.Error(), fmt.Sprint(pid), "PID")
		}
		return fmt.Sprintf("%v %s %s %d", l.Addr, l.Name, l.Veth, l.VethIndex)
	}
	expect := func(when, want string) {
		t.Helper()
		if got := link(); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", when, got, want)
		}
	}
	expect("a box", "10.22.0.7/16 eth0 vetha "+index)
	in("addr", "add", "10.22.0.9/16", "dev", "eth0")
	in("addr", "add", "169.254.1.1/16", "dev", "eth0", "scope", "link")
	expect("with more addresses", "10.22.0.7/16 eth0 vetha "+index)
	in("addr", "flush", "dev", "eth0")
	in("addr", "add", "169.254.1.1/16", "dev", "eth0", "scope", "link")
	expect("without a global one", `"eth0" in the network of process PID: no address`)
	if _, err := BoxLink(pid, "eth0"); !errors.Is(err, ErrNoAddress) {
		t.Errorf("got %v, want ErrNoAddress", err)
	}
	if _, err := BoxLink(pid, "eth1"); !errors.Is(err, ErrNoAddress) {
		t.Errorf("without the interface: got %v, want ErrNoAddress", err)
	}
	in("addr", "add", "10.22.0.8/16", "dev", "eth0")
	expect("changed inside", "10.22.0.8/16 eth0 vetha "+index)
	nstest.Run(t, "ip", "link", "set", "vetha", "nomaster")
	expect("off the bridge", "10.22.0.8/16 eth0 vetha "+index)

	stop()
	if _, err := BoxLink(pid, "eth0"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("gone: got %v, want os.ErrNotExist", err)
	}
}

// Each namespace counts its links for itself: the veth of a stranger may have the index that eth0 names as its peer's.
func TestBoxLinkOfAnotherNamespace(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	n := Network{Bridge: "sbr0", Subnet: mustPrefix("10.22.0.0/16")}
	testBridge(t, n)
	testBox(t, n, "vetha", "10.22.0.2/16")
	other, _ := testBox(t, n, "vethb", "10.22.0.3/16")
	// The other's peer moves to a third namespace, where it keeps its index; a veth of ours then takes that index.
	index := strings.SplitN(nstest.Run(t, "ip", "-o", "link", "show", "vethb"), ":", 2)[0]
	third, _ := nstest.Sleeper(t, "unshare", "-n", "sleep", "600")
	own := nstest.Run(t, "readlink", "/proc/self/ns/net")
	nstest.WaitFor(t, func() bool { return nstest.Run(t, "readlink", fmt.Sprintf("/proc/%d/ns/net", third)) != own })
	nstest.Run(t, "ip", "link", "set", "vethb", "netns", fmt.Sprint(third))
	want := fmt.Sprintf(`finding the other end of "eth0" of process %d: it is not in the host's network`, other)
	if _, err := BoxLink(other, "eth0"); fmt.Sprint(err) != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	for _, peer := range []string{"name vethd", fmt.Sprintf("name eth1 netns %d", other)} {
		nstest.Run(t, "sh", "-ec", "ip link add vethc master sbr0 index "+index+" type veth peer "+peer)
		if _, err := BoxLink(other, "eth0"); fmt.Sprint(err) != want {
			t.Errorf("with a stranger of that index, peer %s:\ngot  %v\nwant %s", peer, err, want)
		}
		nstest.Run(t, "ip", "link", "del", "vethc")
	}
}

func TestBoxLinkOfTheHostsNetwork(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	_, err := BoxLink(os.Getpid(), "lo")
	want := fmt.Sprintf(`"lo" in the network of process %d: no address`, os.Getpid())
	if fmt.Sprint(err) != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	n := Network{Bridge: "sbr0", Subnet: mustPrefix("10.22.0.0/16")}
	testBridge(t, n)
	_, err = BoxLink(os.Getpid(), "sbr0")
	want = fmt.Sprintf(`finding the other end of "sbr0" of process %d: it is a bridge device, not a veth`, os.Getpid())
	if fmt.Sprint(err) != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}
