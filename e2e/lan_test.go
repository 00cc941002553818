package e2e

import (
	"strings"
	"testing"

	"boxrun/e2e/testhost"
)

// The box is a machine of the LAN: others and the host reach the box, a restart keeps address and MAC, the host's way is
// repaired, and nothing stays after the down.
func TestABoxOnTheLAN(t *testing.T) {
	const page = "http://192.0.2.50/"
	h := newHost(t)
	h.profile("lanweb", "image = \"/srv/web\"\n[network]\nmode = \"lan\"\naddress = \"192.0.2.50/24\"\ngateway = \""+
		testhost.ClientAddr+"\"\n[ready]\ntcp = [80]\nhint = \"http://:80/\"\n")
	h.profile("taken", "image = \"/srv/web\"\n[network]\nmode = \"lan\"\naddress = \"192.0.2.50/24\"\n")
	h.profile("hosts", "image = \"/srv/web\"\n[network]\nmode = \"lan\"\naddress = \"192.0.2.1/24\"\n")
	h.profile("nodevice", "image = \"/srv/web\"\n[network]\nmode = \"lan\"\nparent = \"eth7\"\n")
	h.profile("inuse", "image = \"/srv/web\"\n[network]\nmode = \"lan\"\naddress = \""+testhost.ClientAddr+"/24\"\n")
	before := h.dump()
	neighbour := strings.TrimSpace(h.client("cat", "/sys/class/net/eth0/address"))
	h.refuses(1, []string{"network.address", testhost.ClientAddr + " is in use on the LAN of eth0, by " + neighbour}, "boxrun", "up", "inuse")
	h.same(before, stays()...)
	r := h.run("boxrun", "up", "lanweb")
	if r.Code != 0 || !containsAll(r.Stderr, []string{"started at 192.0.2.50 on the LAN of eth0", page[:len(page)-1]}) {
		t.Fatalf("up: %v", r)
	}
	mac := h.must("boxrun", "exec", "lanweb", "--", "cat", "/sys/class/net/eth0/address")
	h.client("curl", "-sS", "-m", "5", page)
	h.must("curl", "-sS", "-m", "5", page)
	h.must("boxrun", "exec", "lanweb", "--", "ping", "-c", "1", "-W", "5", testhost.ClientAddr)
	h.must("boxrun", "exec", "lanweb", "--", "ping", "-c", "1", "-W", "5", testhost.HostAddr)
	if got := boxes(h)[0].Address; got != "192.0.2.50" {
		t.Errorf("ps says %q", got)
	}
	h.refuses(1, []string{"network.address", "192.0.2.50", `box "lanweb"`}, "boxrun", "up", "taken")
	h.refuses(1, []string{"network.address", "the host's own"}, "boxrun", "up", "hosts")
	h.refuses(1, []string{"network.parent", "eth7"}, "boxrun", "up", "nodevice")

	h.must("ip", "link", "del", "lan-eth0")
	if got := h.must("boxrun", "status", "lanweb"); !strings.Contains(got, "lan-eth0, is missing") {
		t.Errorf("status says\n%s", got)
	}
	h.must("boxrun", "repair")
	h.must("curl", "-sS", "-m", "5", page)

	h.must("boxrun", "restart", "lanweb")
	if again := h.must("boxrun", "exec", "lanweb", "--", "cat", "/sys/class/net/eth0/address"); again != mac {
		t.Errorf("the MAC is %q, and was %q", again, mac)
	}
	h.client("curl", "-sS", "-m", "5", page)
	h.must("curl", "-sS", "-m", "5", page)
	h.leadsToWhatTheLANLends()
	h.must("boxrun", "down", "lanweb")
	h.same(before, append(stays(), `^/etc/boxrun/profiles`)...)
}

// leadsToWhatTheLANLends has the host follow a box that gives itself addresses, as its DHCP client would: to those of the LAN,
// and to nobody else's.
func (h host) leadsToWhatTheLANLends() {
	h.t.Helper()
	h.profile("leased", "image = \"/srv/web\"\n[network]\nmode = \"lan\"\n")
	h.must("boxrun", "up", "leased")
	takes := func(addr string) {
		h.must("boxrun", "exec", "leased", "--", "sh", "-c", "ip addr flush dev eth0; ip link set eth0 up; ip addr add "+addr+"/24 dev eth0")
	}
	takes("192.0.2.60")
	h.must("boxrun", "repair")
	h.must("curl", "-sS", "-m", "5", "http://192.0.2.60/")
	for _, addr := range []string{"198.51.100.7", testhost.ClientAddr} {
		takes(addr)
		if r := h.run("boxrun", "repair"); r.Code == 0 || !strings.Contains(r.Stderr, addr+", which the LAN of eth0 does not lend") {
			h.t.Errorf("a box at %s: repair %v", addr, r)
		}
		if got := h.must("ip", "route", "get", addr); strings.Contains(got, "lan-eth0") {
			h.t.Errorf("the host goes to the box for %s: %s", addr, got)
		}
	}
	h.must("boxrun", "down", "leased")
}
