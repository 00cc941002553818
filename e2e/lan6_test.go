package e2e

import (
	"slices"
	"strings"
	"testing"

	"boxrun/e2e/testhost"
	"boxrun/launcher/doctor"
)

// lanSix is a box on the LAN of eth0 with addresses of both families, and a box beside it.
const (
	lanSix = `image = "/srv/web"
[network]
mode = "lan"
address = "192.0.2.50/24"
gateway = "192.0.2.2"
address6 = "2001:db8:7::50/64"
gateway6 = "2001:db8:7::2"
[ready]
tcp = [80]
`
	onLAN6, onLAN4 = "http://[2001:db8:7::50]/", "http://192.0.2.50/"
)

// lanPlaces are those that reach the box "six" on the LAN.
func (h host) lanPlaces(far func(string) string, urls ...string) []place {
	own := func(argv ...string) func(string) string {
		return func(url string) string {
			r := h.run(append(argv, asks(url)...)...)
			return r.Stdout + r.Stderr // why curl has no answer
		}
	}
	places := []place{
		{"the LAN", func(url string) string { return code(h.ClientCommand(h.t.Context(), asks(url)...)) }, urls},
		{"the host", own(), urls},
		{"the box", own("boxrun", "exec", "six", "--"), urls},
		{"a box beside", own("boxrun", "exec", "beside", "--"), urls},
	}
	if far != nil {
		places = append(places, place{"beyond the router", far, urls})
	}
	return places
}

// reachedSoon is reached for an address that a box has just got: who asks a moment too early waits for neighbours in vain.
func (h host) reachedSoon(when string, places []place) {
	h.t.Helper()
	for _, p := range places {
		for _, url := range p.urls {
			if why := eventually(patience, func() string { return strings.TrimPrefix(p.asks(url), "200") }); why != "" {
				h.t.Errorf("%s, from %s %s: got %s, want 200", when, p.name, url, why)
			}
		}
	}
}

// A box on the LAN has a fixed address of IPv6 as it has one of IPv4: neighbours, the host, boxes beside and clients beyond the
// router reach the box there, up, ps and status show it, a loss is named and repaired, and nothing stays after the down.
func TestABoxOnTheLANByIPv6(t *testing.T) {
	h := newHost(t)
	h.six()
	h.profile("six", lanSix)
	h.profile("beside", strings.NewReplacer("2.50", "2.51", "::50", "::51").Replace(lanSix))
	other := func(name, from, to string) {
		h.profile(name, strings.NewReplacer("2.50", "2.52", from, to).Replace(lanSix))
	}
	other("taken", "", "")
	other("hosts", "::50", "::1")
	other("inuse", "::50/64\"\ngateway6", "::2/64\"\n# gateway6")
	before := h.dump()
	mac := strings.TrimSpace(h.client("sh", "-c", "ip -o link show eth0 | grep -o 'ether [^ ]*' | cut -c7-"))
	h.refuses(1, []string{"network.address6", "2001:db8:7::2 is in use on the LAN of eth0, by " + mac}, "boxrun", "up", "inuse")
	h.refuses(1, []string{"network.address6", "2001:db8:7::1 is the host's own"}, "boxrun", "up", "hosts")
	h.sh("sysctl -qw net.ipv6.conf.all.disable_ipv6=1")
	h.refuses(1, []string{"network.address6", "the host has no IPv6"}, "boxrun", "up", "six")
	h.sh("sysctl -qw net.ipv6.conf.all.disable_ipv6=0; ip addr add 2001:db8:7::1/64 dev eth0 nodad; ip -6 route add default via 2001:db8:7::2")
	h.same(before, append(stays(), touched)...)
	far := h.beyond()
	h.tells([]string{"six: started at 192.0.2.50 and 2001:db8:7::50 on the LAN of eth0"}, "boxrun", "up", "six", "beside")
	h.refuses(1, []string{"network.address6", "2001:db8:7::50", `box "six"`}, "boxrun", "up", "taken")
	places := h.lanPlaces(far, onLAN4, onLAN6)
	h.reached("after up", places)
	for _, to := range []string{testhost.ClientAddr, testhost.HostAddr, "2001:db8:7::2", "2001:db8:7::1", "2001:db8:9::2"} {
		h.must("boxrun", "exec", "six", "--", "ping", "-c", "1", "-W", "5", to)
	}
	h.tells([]string{"192.0.2.50, 2001:db8:7::50\n", "in place"}, "boxrun", "status", "six")
	h.tells([]string{"192.0.2.50, 2001:db8:7::50 "}, "boxrun", "ps")
	if i := slices.IndexFunc(boxes(h), func(b status) bool { return b.Name == "six" && slices.Equal(b.LAN6, []string{"2001:db8:7::50"}) }); i < 0 {
		t.Errorf("ps --json says %+v", boxes(h))
	}
	h.finds(h.checks("six"), doctor.Pass, "LAN", "at 192.0.2.50 and 2001:db8:7::50 on the LAN of eth0")
	for _, c := range []struct{ loses, says string }{
		{"ip -6 route del 2001:db8:7::50", "the host's route to 2001:db8:7::50 by lan-eth0 is missing"},
		{networkOfSix + "ip -6 neigh flush dev eth0 nud permanent", "the box does not know the MAC"},
		{"ip link del lan-eth0", "lan-eth0, is missing"},
	} {
		h.sh(c.loses)
		if got := h.run(asks(onLAN6)...).Stdout; got != "000" {
			t.Errorf("without what %q takes away: got %s, want no answer", c.loses, got)
		}
		h.tells([]string{"drifted", c.says}, "boxrun", "status", "six")
		h.must("boxrun", "repair")
		h.reached("after the repair", places[1:2])
	}
	h.sh(networkOfSix + "ip addr del 2001:db8:7::50/64 dev eth0")
	if r := h.run("boxrun", "repair"); r.Code == 0 || !strings.Contains(r.Stderr, "six lacks its address 2001:db8:7::50/64 on eth0 inside") {
		t.Errorf("without the address inside, repair says %v", r)
	}
	h.must("boxrun", "restart", "six")
	h.reached("after a restart", places)
	h.must("boxrun", "enable", "six")
	h.quiet()
	h.must("ip", "-6", "route", "del", "2001:db8:7::50")
	if why := eventually(patience, func() string {
		if got := h.must("ip", "-6", "route", "get", "2001:db8:7::50"); !strings.Contains(got, "dev lan-eth0 ") {
			return got
		}
		return ""
	}); why != "" {
		t.Errorf("the watch has not put the deleted route back: %s", why)
	}
	h.must("boxrun", "disable", "six")
	h.must("boxrun", "down", "six", "beside")
	h.same(before, append(stays(), touched, `^/etc/boxrun/profiles`)...)
}

// networkOfSix begins a command of the host's for the network of the box.
const networkOfSix = "nsenter -n -t $(jq .pid /root/.apptainer/instances/app/*/root/six/six.json) "

// What up --dry-run prints for a box on the LAN by IPv6 does what up does, alone and beside a bridge, where answers leave by the
// network of the question; what down --dry-run prints takes all of it away.
func TestDryRunOfABoxOnTheLANByIPv6(t *testing.T) {
	sideBySide(t)
	for name, profile := range map[string]string{
		"lan":  lanSix,
		"both": strings.Replace(lanSix, `mode = "lan"`, "parent = \"eth0\"\nports = [\"8080:80\"]", 1),
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.six()
			far := h.beyond()
			h.profile("six", profile)
			h.profile("beside", strings.NewReplacer("2.50", "2.51", "::50", "::51").Replace(lanSix))
			h.must("boxrun", "up", "six", "beside")
			h.must("boxrun", "down", "six")
			shown := func() string {
				t.Helper()
				urls := []string{onLAN4, onLAN6}
				if name == "both" {
					urls = append(urls, "http://192.0.2.1:8080/", sixURL)
				}
				h.must("curl", "-sS", "-m", "5", "--retry", "10", "--retry-delay", "1", "--retry-all-errors", "-o", "/dev/null", onLAN4)
				h.reached(name, slices.Delete(h.lanPlaces(far, urls...), 2, 3)) // but the box, which boxrun does not know when a start was typed
				in := networkOfSix
				return h.sh("ip -d -o link show lan-eth0 | sed 's/^[0-9]*: //'; ip route; ip -6 route | grep lan-eth0; sysctl net.ipv6.conf.lan-eth0.accept_ra; " +
					in + "ip -6 neigh show nud permanent | sort; " + in + "ip -6 rule; " + in + "ip -6 route show table all | grep 'table 2200' || true")
			}
			h.typedAsBoxrun("six", shown)
		})
	}
}

// A box on the LAN learns addresses of IPv6 as any machine there: from a router's advertisements, and by a DHCPv6 client. up of
// an enabled box and whatever comes later lead the host there, as the watch hears of it; status shows what there is.
func TestABoxOnTheLANLearnsItsIPv6(t *testing.T) {
	h := bootHost(t, testhost.NewLending)
	h.lendsSix()
	h.profile("six", "image = \"/srv/web\"\n[network]\nmode = \"lan\"\nparent = \"lan0\"\naddress = \"198.51.100.60/24\"\n[ready]\ntcp = [80]\n")
	h.profile("beside", "image = \"/srv/web\"\n[network]\nmode = \"lan\"\nparent = \"lan0\"\naddress = \"198.51.100.61/24\"\n[ready]\ntcp = [80]\n")
	h.must("boxrun", "up", "web") // what stays after the first box on a bridge is told of elsewhere
	h.must("boxrun", "down", "web")
	before := h.dump()
	h.must("boxrun", "up", "six", "beside")
	h.must("boxrun", "enable", "six")
	learnt := func(want int) (addrs []string) {
		t.Helper()
		if why := eventually(patience, func() string {
			addrs = boxes(h)[1].LAN6
			if len(addrs) != want {
				return "ps says " + strings.Join(addrs, ", ")
			}
			return ""
		}); why != "" {
			t.Fatalf("want %d addresses: %s\n%s", want, why, h.sh(networkOfSix+"ip -6 addr; boxrun status six; journalctl -q --no-pager -u lender -u boxrun-watch@host"))
		}
		return addrs
	}
	addr := learnt(1)[0]
	if !strings.HasPrefix(addr, "2001:db8:5:") {
		t.Errorf("the box has learnt %s", addr)
	}
	places := func(addr string) []place {
		p := h.lanPlaces(nil, "http://["+addr+"]/")
		p[0].asks = func(url string) string {
			r := h.run(append([]string{"ip", "netns", "exec", "lender"}, asks(url)...)...)
			return r.Stdout + r.Stderr
		}
		return p
	}
	h.reachedSoon("by an advertisement", places(addr))
	h.tells([]string{addr, "in place"}, "boxrun", "status", "six")
	h.must("boxrun", "exec", "six", "--", "ping", "-c", "1", "-W", "5", "2001:db8:5::1")

	h.must("boxrun", "exec", "six", "--", "ip", "addr", "add", "2001:db8:5::77/64", "dev", "eth0", "nodad")
	learnt(2)
	h.reachedSoon("at an address that a client in the box has got", places("2001:db8:5::77"))
	for _, stolen := range []string{"2001:db8:5::1", "2001:db8:6::1"} { // the host's own, and one of another network
		h.must("boxrun", "exec", "six", "--", "ip", "addr", "add", stolen+"/128", "dev", "eth0", "nodad")
		learnt(3)
		h.must("boxrun", "repair")
		if got := h.run("ip", "-6", "route", "get", stolen); strings.Contains(got.Stdout, "lan-lan0") {
			t.Errorf("the host goes to the box for %s: %v", stolen, got)
		}
		h.must("boxrun", "exec", "six", "--", "ip", "addr", "del", stolen+"/128", "dev", "eth0")
		learnt(2)
	}
	h.must("boxrun", "exec", "six", "--", "ip", "addr", "del", "2001:db8:5::77/64", "dev", "eth0")
	learnt(1)
	if got := h.must("ip", "-6", "route", "show", "dev", "lan-lan0"); strings.Contains(got, "::77") {
		t.Errorf("the host still leads to the old address: %s", got)
	}
	h.must("boxrun", "down", "beside")
	h.asksByDHCPv6(places)
	h.must("boxrun", "disable", "six")
	h.must("boxrun", "down", "six")
	h.same(before, append(stays(), touched)...)
}

// quiet waits until the watch runs no repair and has none in mind, as after a repair that changed something: what happens next
// has to be heard.
func (h host) quiet() {
	h.t.Helper()
	calm := 0
	if why := eventually(patience, func() string {
		calm++
		if h.run("pgrep", "-f", "boxrun repai[r]").Code == 0 {
			calm = 0
		}
		if calm < 20 {
			return "it goes on"
		}
		return ""
	}); why != "" {
		h.t.Errorf("the watch repairs all the time: %s", why)
	}
}

// asksByDHCPv6 has a box whose systemd-networkd asks by DHCP in both families.
func (h host) asksByDHCPv6(places func(string) []place) {
	h.t.Helper()
	h.sh("printf '[Match]\nName=eth0\n[Network]\nDHCP=yes\n[DHCPv4]\nClientIdentifier=mac\n' > /srv/lan.network; " +
		"printf '[Unit]\nWants=systemd-networkd.service\n' > /srv/networkd.conf")
	h.profile("asks", leased)
	h.lends("198.51.100.90", "198.51.100.90", "--enable-ra", "--dhcp-range=2001:db8:5::99,2001:db8:5::99,64,1h")
	h.tells([]string{"started at 198.51.100.90"}, "boxrun", "up", "asks")
	if why := eventually(patience, func() string {
		if got := boxes(h)[0].LAN6; !slices.Contains(got, "2001:db8:5::99") {
			return strings.Join(got, ", ")
		}
		return ""
	}); why != "" {
		h.t.Errorf("the address of the DHCPv6 server is not among %s\n%s", why, h.must("boxrun", "exec", "asks", "--", "networkctl", "status", "--no-pager", "eth0"))
	}
	h.reachedSoon("by DHCPv6", places("2001:db8:5::99")[:2])
	h.tells([]string{"2001:db8:5::99", "in place"}, "boxrun", "status", "asks")
	h.must("boxrun", "down", "asks")
	h.sh("rm /srv/lan.network /srv/networkd.conf /etc/boxrun/profiles/asks.toml")
	h.advertises()
}

// lendsSix makes the LAN on lan0 one with a router, which advertises 2001:db8:5::/64. The host has a fixed address there.
func (h host) lendsSix() {
	h.t.Helper()
	h.lends("198.51.100.90", "198.51.100.99")
	h.sh("systemctl stop lender; sysctl -qw net.ipv6.conf.lan0.accept_ra=0; ip addr add 2001:db8:5::1/64 dev lan0 nodad; " +
		"ip -n lender addr add 2001:db8:5::2/64 dev eth0 nodad")
	h.advertises()
}

// advertises starts the router of that LAN.
func (h host) advertises() {
	h.t.Helper()
	h.lends("198.51.100.90", "198.51.100.99", "--enable-ra", "--dhcp-range=2001:db8:5::,ra-only")
}
