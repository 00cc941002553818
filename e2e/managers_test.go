package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"boxrun/e2e/testhost"
)

// networkd writes a file of the site's that systemd-networkd manages devices by, and starts it.
func networkd(match string) string {
	return "mkdir -p /etc/systemd/network; printf '[Match]\\n" + match + "\\n[Network]\\nDHCP=yes\\n' > /etc/systemd/network/50-site.network; " +
		"systemctl start systemd-networkd; " +
		// Its helper ends a little later.
		"for i in $(seq 60); do [ -d /sys/fs/cgroup/system.slice/systemd-networkd-persistent-storage.service ] || break; sleep 0.05; done"
}

// unmanaged wants systemd-networkd to leave all of boxrun's alone: it configures a device shortly after it hears of it.
func (h host) unmanaged() {
	h.t.Helper()
	got := eventually(20*time.Second, func() string {
		got := h.sh("networkctl --no-legend | grep -E 'sbr0|veth|lan-' || true")
		if strings.Count(got, "unmanaged") == strings.Count(got, "\n") && got != "" {
			return ""
		}
		return got
	})
	if got != "" {
		h.t.Errorf("systemd-networkd has\n%swant all of it unmanaged", got)
	}
}

// A host whose systemd-networkd manages all devices that come leaves boxes alone, whenever it reads its files.
func TestNetworkdLeavesBoxesAlone(t *testing.T) {
	sideBySide(t)
	const ofAType = "Type=ether\\nName=!eth0"
	for _, c := range []struct {
		name, match string
		boot        func(context.Context, func(string)) (*testhost.Host, error)
	}{
		{"all of a type", ofAType, testhost.New},
		{"all but some", "Name=!eth0 lo", testhost.New},
		{"systemd 247", ofAType, testhost.NewDebian11},
		{"systemd 252", ofAType, testhost.NewDebian12},
		{"systemd of sid", ofAType, testhost.NewSid},
	} {
		t.Run(c.name, func(t *testing.T) {
			if strings.HasPrefix(c.name, "systemd") && !soak() {
				t.Skip("at full length only")
			}
			h := bootHost(t, c.boot)
			h.serve(h.probe, "serve", "client", "tcp/:6001")
			h.sh(networkd(c.match))
			h.profile("lanweb", "image = \"builtin:hello\"\n[network]\nmode = \"lan\"\naddress = \"192.0.2.50/24\"\n")
			before := h.dump()
			h.must("boxrun", "up", "web", "lanweb")
			h.unmanaged()
			h.reaches()
			for _, act := range []string{"networkctl reload", "systemctl restart systemd-networkd", "systemctl stop systemd-networkd; systemctl start systemd-networkd"} {
				h.sh(act)
				h.unmanaged()
				h.reaches()
				if got := h.must("boxrun", "status", "web") + h.must("boxrun", "status", "lanweb"); strings.Contains(got, "drifted") {
					t.Errorf("after %s, status says\n%s", act, got)
				}
			}
			h.must("boxrun", "down", "web", "lanweb")
			h.same(before, stays()...)
			h.sh("ip link add veth0123abcd type veth peer name other0; ip link set veth0123abcd up")
			h.sh("for i in $(seq 60); do networkctl --no-legend | grep 'veth0123abcd.*config' && exit 0; sleep 0.05; done; networkctl; exit 1")
		})
	}
}

// A host whose NetworkManager is told to let all devices go, and to take them again, keeps the bridge with its address.
func TestNetworkManagerLeavesTheBridgeAlone(t *testing.T) {
	h := bootHost(t, testhost.NewWithNeighbours)
	h.serve(h.probe, "serve", "client", "tcp/:6001")
	h.sh("printf '[main]\ndns=none\n[keyfile]\nunmanaged-devices=interface-name:eth0\n' > /etc/NetworkManager/conf.d/site.conf; systemctl start NetworkManager; sleep 1")
	before := h.dump()
	h.must("boxrun", "up", "web")
	for _, act := range []string{"nmcli networking off; nmcli networking on", "nmcli general reload", "systemctl restart NetworkManager; nmcli networking off; nmcli networking on"} {
		h.sh(act)
		time.Sleep(time.Second) // what nmcli asks for is done by and by
		h.reaches()
		if got := h.must("boxrun", "status", "web"); strings.Contains(got, "drifted") {
			t.Errorf("after %s, status says\n%s", act, got)
		}
	}
	h.must("boxrun", "down", "web")
	h.same(before, stays()...)
	h.sh("ip link add sbr0 up type bridge; ip addr add 10.22.0.1/16 dev sbr0; for i in $(seq 60); do nmcli device | grep 'sbr0.*externally' && exit 0; sleep 0.05; done; nmcli device; exit 1")
}

// quickLooks has a look at the box web that is cut off end after two seconds: each verb that says how the box is looks so long.
const quickLooks = "printf '[health]\ntimeout = \"2s\"\n' >> /etc/boxrun/profiles/web.toml"

// takenApart are the ways in which another program takes a box off its network, as far as the watch hears of them.
func takenApart() []drift {
	const veth = "$(ip -br link show master sbr0 | cut -d @ -f 1)"
	return []drift{
		{name: "the veth taken off the bridge", script: "ip link set " + veth + " nomaster", word: "not on bridge sbr0"},
		{name: "the veth put on another bridge", script: "ip link add br9 up type bridge; ip link set " + veth + " master br9", word: "not on bridge sbr0"},
		{name: "the veth down", script: "ip link del br9; ip link set " + veth + " down", word: "is down"},
		{name: "the bridge down", script: "ip link set sbr0 down", word: "sbr0 is down"},
		{name: "the bridge without its address", script: "ip addr flush dev sbr0", word: "lacks the address 10.22.0.1/16"},
		{name: "the bridge with another address", script: "ip addr flush dev sbr0; ip addr add 198.51.100.7/24 dev sbr0", word: "lacks the address 10.22.0.1/16"},
		{name: "the route to the boxes deleted", script: "ip route del 10.22.0.0/16 dev sbr0", word: "lacks the route to 10.22.0.0/16"},
		{name: "the route of IPv6 deleted", script: "ip -6 route del $(ip -6 route show dev sbr0 proto kernel | grep -o '^fd[^ ]*') dev sbr0", word: "lacks the route to fd"},
		{name: "the bridge without ARP", script: "ip link set sbr0 arp off; ip neigh flush dev sbr0", word: "arp off"},
		{name: "the bridge without IPv6", script: "sysctl -qw net.ipv6.conf.sbr0.disable_ipv6=1", word: "sbr0.disable_ipv6 is 1"},
		{name: "the port of the veth disabled", script: "bridge link set dev " + veth + " state 0", word: "the state disabled"},
		{name: "the port of the veth without floods", script: "bridge link set dev " + veth + " flood off bcast_flood off", word: "flood off", needs: portFlags},
		{name: "the port of the veth locked", script: "bridge link set dev " + veth + " locked on", word: "locked on", needs: portFlags},
		{name: "the bridge with the log of a boxrun without IPv6", script: "jq -c 'del(.state.settings6, .state.address6)' /run/boxrun/bridges/sbr0.json > /run/older; " +
			"mv /run/older /run/boxrun/bridges/sbr0.json; sysctl -qw net.ipv6.conf.sbr0.disable_ipv6=1", word: "sbr0.disable_ipv6 is 1"},
		{name: "the bridge renamed", script: "ip link set sbr0 down; ip link set sbr0 name x0", word: "it was renamed to x0"},
		{name: "the bridge deleted", script: "ip link del sbr0", word: "bridge sbr0 is missing"},
		{name: "the bridge deleted and made by somebody", script: "ip link del sbr0; ip link add sbr0 up type bridge", word: "not on bridge sbr0"},
	}
}

// neighbour is what somebody writes of the box. The watch hears nothing of neighbours, which change all the time.
func neighbour() drift {
	return drift{name: "a neighbour written by hand", script: "ip neigh replace 10.22.0.2 lladdr 02:00:00:00:00:99 dev sbr0 nud permanent", word: "permanent neighbour 10.22.0.2 at 02:00:00:00:00:99"}
}

// A box that others took off its network stays up; each verb that mends puts it back.
func TestABoxIsPutBackOnItsNetwork(t *testing.T) {
	h := newHost(t)
	h.serve(h.probe, "serve", "client", "tcp/:6001")
	h.sh(quickLooks)
	before := h.dump()
	h.must("boxrun", "up", "web")
	pid := boxes(h)[0].PID
	verbs := []string{"boxrun repair", "boxrun up web", "boxrun doctor --fix"}
	for i, c := range append(takenApart(), neighbour()) {
		t.Run(c.name, func(t *testing.T) {
			h := h.in(t)
			h.sh(c.script)
			for _, tell := range []string{"status", "diff"} {
				if got := h.run("boxrun", tell, "web"); got.Code != 0 || !strings.Contains(got.Stdout, c.word) {
					t.Errorf("%s: %v\nwant %q", tell, got, c.word)
				}
			}
			h.shows(10*time.Second, "drifted")
			h.sh(verbs[i%len(verbs)])
			if got := h.must("boxrun", "ps", "--json"); !strings.Contains(got, `"drift": []`) {
				t.Errorf("after %s, ps says\n%s", verbs[i%len(verbs)], got)
			}
			if got := h.must("boxrun", "status", "web"); strings.Contains(got, "drifted") {
				t.Errorf("after %s, status says\n%s", verbs[i%len(verbs)], got)
			}
			h.reaches()
		})
	}
	if now := boxes(h)[0].PID; now != pid {
		t.Errorf("the box was started anew: pid %d, then %d", pid, now)
	}
	h.sh("ip rule flush")
	h.toldByAll("the host's packets for 10.22.0.2 leave by no device, not by sbr0", "no rule asks the table main: \"ip rule add pref 32766 lookup main\" mends that")
	h.sh("ip rule add pref 32766 lookup main; ip rule add pref 32767 lookup default")
	h.reaches()
	h.sh("ip xfrm policy add src 0.0.0.0/0 dst 10.22.0.0/24 dir fwd tmpl src 192.0.2.1 dst 192.0.2.9 proto esp mode tunnel")
	const tunnel = "dir fwd src 0.0.0.0/0 dst 10.22.0.0/24"
	h.toldByAll("a policy of IPsec encrypts packets of 10.22.0.2, and of others: "+tunnel, "\"ip xfrm policy delete "+tunnel+"\"")
	h.sh("ip xfrm policy delete " + tunnel)
	h.reaches()
	h.must("boxrun", "down", "web")
	h.same(before, stays()...)
}

// told wants words from status and diff of the box web, and a check of doctor's that fails with them.
func (h host) told(words ...string) {
	h.t.Helper()
	for _, argv := range [][]string{{"boxrun", "status", "web"}, {"boxrun", "diff", "web"}, {"boxrun", "doctor", "web"}} {
		if r := h.run(argv...); !containsAll(r.Stdout, words) {
			h.t.Errorf("%s: %v\nwant %q", argv, r, words)
		}
	}
}

// toldByAll is told for what boxrun cannot mend: up and repair say the words too, and that nothing is left to do for them.
func (h host) toldByAll(words ...string) {
	h.t.Helper()
	h.told(words...)
	for _, argv := range [][]string{{"boxrun", "up", "--wait-timeout", "1s", "web"}, {"boxrun", "repair"}} {
		if r := h.run(argv...); !containsAll(r.Stderr, words) || strings.Contains(r.Stderr, "all rules are in place") {
			h.t.Errorf("%s: %v\nwant %q", argv, r, words)
		}
	}
}

// A site's own file of networkd's for all devices comes after boxrun's. One that comes before is named, with what to add:
// before a start, which is refused, and under a box that is up.
func TestAFileOfNetworkdsBeforeBoxruns(t *testing.T) {
	h := newHost(t)
	h.serve(h.probe, "serve", "client", "tcp/:6001")
	h.sh(networkd("Type=ether\\nName=!eth0"))
	h.sh("mv /etc/systemd/network/50-site.network /etc/systemd/network/00-all.network; networkctl reload")
	h.must("boxrun", "up", "web")
	h.unmanaged()
	h.says(nil)
	h.reaches()

	h.sh("mv /etc/systemd/network/00-all.network '/etc/systemd/network/!all.network'; networkctl reload")
	named := []string{"systemd-networkd manages veth", "/etc/systemd/network/!all.network", "Name=!sbr0 veth*"}
	h.toldByAll(named...)
	h.sh("cp /run/systemd/network/+boxrun-sbr0.network /run/systemd/network/00-boxrun-sbr0.network") // of an older boxrun
	h.must("boxrun", "down", "web")
	h.sh("! ls /run/systemd/network/*boxrun*")
	h.fails(1, append(named, "hint: add \"Name="), "boxrun", "up", "web")
	h.sh("sed -i '/Name=/s/$/ sbr0 veth*/' '/etc/systemd/network/!all.network'; networkctl reload")
	h.must("boxrun", "up", "web")
	h.unmanaged()
	h.says(nil)
	h.reaches()
}

// Forwarding is a setting of each interface: of the bridge it is boxrun's to set, of others it is named.
func TestForwardingOfInterfaces(t *testing.T) {
	h := newHost(t)
	h.serve(h.probe, "serve", "client", "tcp/:6001")
	h.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.default.forwarding=0")
	h.must("boxrun", "up", "web")
	h.reaches()
	h.sh("sysctl -qw net.ipv4.conf.sbr0.forwarding=0")
	h.told("net.ipv4.conf.sbr0.forwarding is 0")
	h.must("boxrun", "repair")
	h.reaches()
	for name, turn := range map[string]struct{ off, by string }{
		"typed":       {"rm -f /etc/systemd/network/eth0.network; sysctl -qw net.ipv4.conf.eth0.forwarding=0", ""},
		"by sysctl.d": {"rm -f /etc/systemd/network/eth0.network; echo net.ipv4.conf.eth0.forwarding=0 > /etc/sysctl.d/60-site.conf; sysctl -qp /etc/sysctl.d/60-site.conf", "/etc/sysctl.d/60-site.conf:1"},
		"by networkd": {"rm -f /etc/sysctl.d/60-site.conf; mkdir -p /etc/systemd/network; printf '[Match]\\nName=eth0\\n[Network]\\nAddress=192.0.2.1/24\\nGateway=192.0.2.2\\nIPv4Forwarding=no\\n' " +
			"> /etc/systemd/network/eth0.network; systemctl start systemd-networkd; udevadm trigger -w -c add /sys/class/net/eth0; " +
			"for i in $(seq 400); do grep -q 0 /proc/sys/net/ipv4/conf/eth0/forwarding && " +
			"grep -q NETWORK_FILE=/etc/systemd/network/eth0.network /run/systemd/netif/links/$(cat /sys/class/net/eth0/ifindex) && exit 0; sleep 0.05; done; networkctl; exit 1",
			"/etc/systemd/network/eth0.network:6"},
	} {
		t.Run(name, func(t *testing.T) {
			h := h.in(t)
			h.sh(turn.off)
			h.toldByAll("net.ipv4.conf.eth0.forwarding is 0", turn.by)
			r := h.run("boxrun", "up", "web")
			if r.Code != 0 || !containsAll(r.Stderr, []string{"warning: net.ipv4.conf.eth0.forwarding is 0", turn.by, "hint: sysctl -w"}) {
				t.Errorf("up: %v\nwant a warning and a hint", r)
			}
			h.sh("sysctl -qw net.ipv4.conf.eth0.forwarding=1")
			h.reaches()
		})
	}
}

// An interface goes by each of its names where boxrun only looks at it. A bridge does not: rules match its first name.
func TestOtherNamesOfInterfaces(t *testing.T) {
	h := newHost(t)
	h.serve(h.probe, "serve", "client", "tcp/:6001")
	h.sh("ip link property add dev eth0 altname a-name-longer-than-fifteen altname short")
	web := h.sh("cat /etc/boxrun/profiles/web.toml")
	h.profile("web", strings.Replace(web, "[network]\n", "[network]\nexternal = \"a-name-longer-than-fifteen\"\n", 1))
	h.says(nil)
	h.page()
	h.profile("taken", "image = \"builtin:hello\"\n[network]\nexternal = \"short\"\nports = [\"80:8080\"]\n")
	h.fails(1, []string{"host port 80/tcp is taken by box \"web\""}, "boxrun", "up", "taken")
	h.sh("ip link add br9 type bridge; ip link property add dev br9 altname lab0")
	h.profile("lab", "image = \"builtin:hello\"\n[network]\nbridge = \"lab0\"\nsubnet = \"10.23.0.0/16\"\n")
	h.fails(1, []string{"lab.toml: network.bridge: \"lab0\" is no name for a bridge: it is an alternative name of br9", "hint: choose another network.bridge"},
		"boxrun", "up", "lab")
	h.fails(1, []string{"lab.toml: network.bridge: \"lab0\" is no name for a bridge: it is an alternative name of br9", "hint: choose another network.bridge"},
		"boxrun", "profile", "check", "lab")
	h.must("boxrun", "profile", "check", "web", "taken")

	h.sh("ip rule add sport 80 ipproto tcp lookup 100; ip rule add uidrange 1000-2000 lookup 101")
	if got := h.run("boxrun", "doctor", "web").Stdout; !containsAll(got, []string{"boxrun cannot plan answers by ip rule", "(uidrange)", "(ipproto, sport)"}) {
		t.Errorf("doctor says\n%swant the rules by port and by user", got)
	}
}

// A port published on an interface without an address is published nowhere, for which no rule is blamed. The address may come later.
func TestAnExternalInterfaceWithoutAnAddress(t *testing.T) {
	h := newHost(t)
	h.sh("ip link add ext1 up type veth peer name ext2; ip link set ext2 up")
	h.profile("hello", "image = \"builtin:hello\"\n[network]\nexternal = \"ext1\"\nports = [\"8080:80\"]\n")
	r := h.run("boxrun", "up", "hello")
	if r.Code != 0 || !strings.Contains(r.Stderr, "ext1 has no address now") || strings.Contains(r.Stderr, "BOXRUN") {
		t.Errorf("up: %v\nwant a warning of the address, and no rule blamed", r)
	}
	if r := h.run("boxrun", "doctor", "hello"); strings.Contains(r.Stdout, "dropped by") {
		t.Errorf("doctor: %v\nwant no rule blamed", r)
	}
	h.sh("ip addr add 198.51.100.1/24 dev ext1; boxrun repair")
	h.must("curl", "-sS", "-m", "5", "http://198.51.100.1:8080/")
}
