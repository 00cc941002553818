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
	neighbour := strings.TrimSpace(h.client("sh", "-c", "ip -o link show eth0 | grep -o 'ether [^ ]*' | cut -c7-"))
	h.refuses(1, []string{"network.address", testhost.ClientAddr + " is in use on the LAN of eth0, by " + neighbour}, "boxrun", "up", "inuse")
	h.sh("mv /usr/lib/cni/macvlan /usr/lib/cni/away")
	h.refuses(1, []string{"network.mode", "no macvlan in /usr"}, "boxrun", "up", "lanweb")
	h.sh("mv /usr/lib/cni/away /usr/lib/cni/macvlan")
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
	h.must("boxrun", "up", "--no-wait", "leased")
	takes := func(addr string) {
		h.must("boxrun", "exec", "leased", "--", "sh", "-c", "ip addr flush dev eth0; ip link set eth0 up; ip addr add "+addr+"/24 dev eth0")
	}
	takes("192.0.2.60")
	h.must("boxrun", "repair")
	h.must("curl", "-sS", "-m", "5", "--retry", "10", "--retry-all-errors", "http://192.0.2.60/")
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

// What up --dry-run prints for a box on the LAN does what up does, and down --dry-run takes all of it away.
func TestDryRunOfABoxOnTheLAN(t *testing.T) {
	h := newHost(t)
	h.profile("lanweb", "image = \"/srv/web\"\n[network]\nmode = \"lan\"\naddress = \"192.0.2.50/24\"\n")
	h.must("boxrun", "up", "lanweb")
	h.must("boxrun", "down", "lanweb")
	shown := func() string {
		t.Helper()
		h.must("curl", "-sS", "-m", "5", "--retry", "10", "--retry-delay", "1", "--retry-all-errors", "http://192.0.2.50/")
		return h.sh("ip -d -o link show lan-eth0 | sed 's/^[0-9]*: //'; ip route; head /run/systemd/network/*boxrun*; " +
			"nsenter -t $(jq .pid /root/.apptainer/instances/app/*/root/lanweb/lanweb.json) -n sysctl net.ipv4.ping_group_range")
	}
	h.typedAsBoxrun("lanweb", shown)
}

// typedAsBoxrun wants the commands of the dry runs of down and up, typed, to make the same as boxrun does of a box, in the
// words of shown.
func (h host) typedAsBoxrun(name string, shown func() string) {
	h.t.Helper()
	before := h.dump()
	h.must("boxrun", "up", name)
	byBoxrun := shown()
	typed := func(verb string) {
		h.t.Helper()
		script := h.must("boxrun", verb, "--dry-run", name)
		if r := h.run("bash", "-ec", script); r.Code != 0 {
			h.t.Fatalf("typing\n%s: %v", script, r)
		}
	}
	typed("down")
	h.same(before, stays()...)
	typed("up")
	if byHand := shown(); byHand != byBoxrun {
		h.t.Errorf("got\n%s\nwant\n%s", byHand, byBoxrun)
	}
}

// A reset takes the way away without any record of a box, as its dry run does.
func TestResetOfTheWayToTheLAN(t *testing.T) {
	h := newHost(t)
	h.profile("lanweb", "image = \"/srv/web\"\n[network]\nmode = \"lan\"\naddress = \"192.0.2.50/24\"\n")
	before := h.dump()
	for _, reset := range []string{"boxrun host reset --force", "boxrun host reset --dry-run | bash -e"} {
		h.must("boxrun", "up", "lanweb")
		if got := h.must("boxrun", "host", "show"); !strings.Contains(got, "macvlan device lan-eth0") || strings.Contains(got, "in no record") {
			t.Errorf("with the box up: host show says\n%s", got)
		}
		// Without boxrun the stop of the service takes nothing away.
		h.sh(`mv /usr/local/bin/boxrun /root; rm -rf /run/boxrun/boxes; apptainer instance stop lanweb
			for i in $(seq 100); do systemctl show -P ActiveState boxrun-lanweb | grep -Ex 'inactive|failed' && break; sleep 0.1; done
			mv /root/boxrun /usr/local/bin; systemctl reset-failed 'boxrun-lanweb*'`)
		if got := h.must("boxrun", "host", "show"); !strings.Contains(got, "lan-eth0") || !strings.Contains(got, "in no record") {
			t.Errorf("without records: host show says\n%s", got)
		}
		h.sh(reset)
		h.same(before, append(stays(), `^/etc/boxrun/profiles`)...)
	}
}

// leased is a box whose systemd-networkd asks the LAN of lan0 for an address.
const leased = `image = "/srv/web"
[network]
mode = "lan"
parent = "lan0"
[storage]
binds = ["/srv/lan.network:/etc/systemd/network/lan.network:ro", "/srv/networkd.conf:/etc/systemd/system/multi-user.target.d/networkd.conf:ro"]
[ready]
timeout = "30s"
tcp = [80]
`

// lends makes a LAN on lan0, beside the LAN of eth0, with a DHCP server that lends the addresses from first to last and knows
// of no lease. The server names itself as the router, unless options say otherwise.
func (h host) lends(first, last string, options ...string) {
	h.t.Helper()
	h.sh("[ -e /sys/class/net/lan0 ] || { ip netns add lender; ip link add lan0 type veth peer name eth0 netns lender; " +
		"sysctl -qw net.ipv6.conf.lan0.accept_dad=0; ip addr add 198.51.100.1/24 dev lan0; ip link set lan0 up; " +
		"ip -n lender addr add 198.51.100.2/24 dev eth0; ip -n lender link set eth0 up; }")
	h.sh("systemctl stop lender 2> /dev/null || true; rm -f /run/lender.leases; systemd-run -q --unit=lender -p Type=forking ip netns exec lender dnsmasq --port=0 " +
		"--conf-file=/dev/null --interface=eth0 --bind-interfaces --no-ping --dhcp-authoritative --dhcp-leasefile=/run/lender.leases --pid-file=/run/lender.pid " +
		"--user=root --dhcp-range=" + first + "," + last + ",1h " + strings.Join(options, " "))
}

// A DHCP client in the box asks for the address: up waits for it, the host leads there, a restart keeps it, the host follows
// the box to another one, and without a server up says what it waited for.
func TestABoxOnTheLANAsksForItsAddress(t *testing.T) {
	h := bootHost(t, testhost.NewLending)
	h.lends("198.51.100.60", "198.51.100.60")
	h.sh("printf '[Match]\nName=eth0\n[Network]\nDHCP=ipv4\n[DHCPv4]\nClientIdentifier=mac\n' > /srv/lan.network; " +
		"printf '[Unit]\nWants=systemd-networkd.service\n' > /srv/networkd.conf")
	h.profile("leased", leased)
	h.must("boxrun", "up", "web") // what stays after the first box on a bridge is told of elsewhere
	h.must("boxrun", "down", "web")
	h.must("systemctl", "stop", "lender")
	before := h.dump()
	h.lends("198.51.100.60", "198.51.100.60")
	reaches := func(addr string) string {
		for _, from := range []string{"", "ip netns exec lender "} {
			if r := h.run("sh", "-c", from+"curl -sS -m 2 http://"+addr+"/"); r.Code != 0 {
				return from + r.Stderr
			}
		}
		return ""
	}
	r := h.run("boxrun", "up", "leased")
	if r.Code != 0 || !strings.Contains(r.Stderr, "started at 198.51.100.60 on the LAN of lan0") {
		t.Fatalf("up: %v", r)
	}
	if why := reaches("198.51.100.60"); why != "" {
		t.Error(why)
	}
	if got := boxes(h)[0].Address; got != "198.51.100.60" {
		t.Errorf("ps says %q", got)
	}
	if got := h.must("boxrun", "status", "leased"); !strings.Contains(got, "198.51.100.60") || strings.Contains(got, "drifted") {
		t.Errorf("status says\n%s", got)
	}
	h.lends("198.51.100.60", "198.51.100.90") // a server that has lost its leases gives the client what it had
	r = h.run("boxrun", "restart", "leased")
	if r.Code != 0 || !strings.Contains(r.Stderr, "at 198.51.100.") {
		t.Fatalf("restart: %v", r)
	}
	kept := boxes(h)[0].Address
	h.must("boxrun", "restart", "leased")
	if got := boxes(h)[0].Address; got != kept {
		t.Errorf("after a restart the box is at %s, and was at %s", got, kept)
	}

	h.must("boxrun", "enable", "leased")
	h.lends("198.51.100.100", "198.51.100.100")
	h.must("boxrun", "exec", "leased", "--", "networkctl", "reconfigure", "eth0")
	if why := eventually(patience, func() string { return reaches("198.51.100.100") }); why != "" {
		t.Errorf("the host has not followed the box: %s\n%s\n%s\n%s", why, h.must("boxrun", "status", "leased"),
			h.must("journalctl", "-q", "--no-pager", "-o", "short-monotonic", "-u", "lender", "-u", "boxrun-watch@host"), h.must("boxrun", "exec", "leased", "--", "journalctl", "-q", "-o", "short-monotonic", "--no-pager", "-u", "systemd-networkd"))
	}
	if got := boxes(h)[0].Address; got != "198.51.100.100" {
		t.Errorf("ps says %q", got)
	}
	if got := h.must("ip", "route", "show", "dev", "lan-lan0"); strings.Contains(got, kept) {
		t.Errorf("the host still leads to the old address: %s", got)
	}
	h.must("ip", "route", "del", "198.51.100.100", "dev", "lan-lan0")
	if why := eventually(patience, func() string {
		if got := h.must("ip", "route", "get", "198.51.100.100"); !strings.Contains(got, "dev lan-lan0 ") {
			return got
		}
		return ""
	}); why != "" {
		t.Errorf("the watch has not put the deleted route back: %s", why)
	}
	h.must("boxrun", "disable", "leased")
	h.must("boxrun", "down", "leased")
	h.must("systemctl", "stop", "lender")
	h.same(before, append(stays(), touched)...)

	h.fails(5, []string{"no DHCP client in the box has got an address of the LAN of lan0", "network.address"}, "boxrun", "up", "--wait-timeout", "2s", "leased")
	h.must("boxrun", "down", "leased")
}
