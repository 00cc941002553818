package routing

import (
	"fmt"
	"testing"

	"github.com/vishvananda/netlink"
)

// The link of a doctor comes and goes: were its address an uplink's, the rules of all boxes would be out of date meanwhile.
func TestAddressesAreThoseThatStay(t *testing.T) {
	lists := Lists{Family: netlink.FAMILY_V4}
	for i, link := range []struct{ name, alias, addr string }{
		{"eth0", "", "192.0.2.1/24"}, {"boxrun-d4711", OfDoctor, "198.18.6.129/30"}, {"eth1", "uplink to the campus", "198.51.100.1/24"},
	} {
		addr, err := netlink.ParseAddr(link.addr)
		if err != nil {
			t.Fatal(err)
		}
		addr.LinkIndex = i + 1
		lists.Addrs = append(lists.Addrs, *addr)
		lists.Links = append(lists.Links, &netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: link.name, Index: i + 1, Alias: link.alias}})
	}
	var got []string
	for _, a := range Read(lists).Addresses() {
		got = append(got, a.Addr.String()+" "+a.Device)
	}
	if got, want := fmt.Sprint(got), "[192.0.2.1 eth0 198.51.100.1 eth1]"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
