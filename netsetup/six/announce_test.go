package six

import (
	"net/netip"
	"strings"
	"testing"

	"boxrun/netsetup/nstest"
)

// A neighbour that is sure of an earlier MAC learns the new MAC at once.
func TestAnnounce(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	const mac = "02:00:00:00:00:02"
	nstest.Shell(t, `
		ip netns add near; ip link add eth0 address 02:00:00:00:00:02 type veth peer name eth0 netns near
		ip addr add fd42::2/64 dev eth0 nodad; ip link set eth0 up
		ip -n near addr add fd42::1/64 dev eth0 nodad; ip -n near link set eth0 up
		for i in $(seq 500); do ip -n near -6 route show table all | grep -q ff00:: && break; sleep 0.01; done
		ip -n near neigh replace fd42::2 lladdr 02:00:00:00:00:99 dev eth0 nud reachable`)
	i := &Inside{Device: "eth0", Prefix: netip.MustParsePrefix("fd42::2/64")}
	if err := i.Announce(); err != nil {
		t.Fatal(err)
	}
	known := nstest.Shell(t, "for i in $(seq 100); do ip -n near neigh show fd42::2 | grep -q "+mac+" && break; sleep 0.01; done; ip -n near neigh show fd42::2")
	if !strings.Contains(known, mac) {
		t.Errorf("the neighbour has %s, want the MAC %s", known, mac)
	}
}
