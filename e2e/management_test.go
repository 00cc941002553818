package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"boxrun/e2e/testhost"
)

// A management is a program that manages devices, addresses, name servers or rules of a host, and what that program does now
// and then. After each of these a client of an enabled box is served within the time promised, and status finds all in place.
type management struct {
	name   string
	boot   func(context.Context, func(string)) (*testhost.Host, error)
	setup  string // before the first box
	client string // a command on the host that asks for the page; "" for the client outside
	acts   []string
	sample bool // tried on each change of boxrun
}

const (
	// seenByUdev has managers of devices take the uplink, which came with the host's network and not to udev.
	seenByUdev = "udevadm trigger -w -c add /sys/class/net/eth0\n"

	// nmUplink has NetworkManager manage the uplink.
	nmUplink = seenByUdev + `printf '[main]\ndns=none\n' > /etc/NetworkManager/conf.d/site.conf
printf '[connection]\nid=uplink\ntype=ethernet\ninterface-name=eth0\n[ipv4]\nmethod=manual\naddress1=192.0.2.1/24,192.0.2.2\n[ipv6]\nmethod=disabled\n' > /etc/NetworkManager/system-connections/uplink.nmconnection
chmod 600 /etc/NetworkManager/system-connections/uplink.nmconnection
systemctl mask -q NetworkManager-dispatcher; systemctl start NetworkManager; nmcli -w 20 connection up uplink`

	// networkdUplink has systemd-networkd manage the uplink.
	networkdUplink = seenByUdev + `mkdir -p /etc/systemd/network; printf '[Match]\nName=eth0\n[Network]\nAddress=192.0.2.1/24\nGateway=192.0.2.2\n' > /etc/systemd/network/10-eth0.network
systemctl start systemd-networkd; /lib/systemd/systemd-networkd-wait-online -i eth0 --timeout 20`

	// lender is beyond a second uplink, and lends an address there for two minutes, the least.
	lender = `ip netns add lender; ip link add lan0 type veth peer name eth0 netns lender; ip link set lan0 up
ip -n lender addr add 198.51.100.2/24 dev eth0; ip -n lender link set eth0 up; ip -n lender link set lo up; mkdir -p /var/lib/dhcp
` + lend + "; "
	lend = `systemd-run -q --unit=lender -p Type=forking ip netns exec lender dnsmasq --port=0 --conf-file=/dev/null --interface=eth0 --bind-interfaces ` +
		`--no-ping --user=root --dhcp-authoritative --dhcp-leasefile=/run/lender.leases --pid-file=/run/lender.pid --dhcp-range=198.51.100.50,198.51.100.50,2m --dhcp-option=3`
	asksLent = "ip netns exec lender curl -sSf -m 0.3 http://198.51.100.50/"
	dhclient = "dhclient -1 -q -pf /run/dhclient.pid lan0"
	lost     = "for i in $(seq 70); do ip -4 addr show dev lan0 | grep -qF 198.51.100.50 || break; sleep 1; done; "
	isLost   = lost + "if ip -4 addr show dev lan0 | grep -F 198.51.100.50; then exit 1; fi; "
	lentAway = "systemctl stop lender; " + lost + isLost + lend + "; "

	// dhcpcdUplinks has dhcpcd manage both uplinks. It leaves no box alone of itself.
	dhcpcdUplinks = lender + seenByUdev + "sed -i '1i denyinterfaces veth* lan-*' /etc/dhcpcd.conf; printf 'interface eth0\nstatic ip_address=192.0.2.1/24\nstatic routers=192.0.2.2\n' >> /etc/dhcpcd.conf; " +
		leases + "systemctl start dhcpcd; " + leasedAnew
	// leasedAnew waits for one more lease of dhcpcd's than before, and for its addresses.
	leasedAnew = "for i in $(seq 400); do [ $(leases) -gt $before ] && ip addr show dev lan0 | grep -qF 198.51.100.50 && ip addr show dev eth0 | grep -qF 192.0.2.1/ && break; sleep 0.1; done; [ $(leases) -gt $before ]; "
	leases     = "leases() { journalctl -u dhcpcd -o cat | grep -c 'lan0: leased' || true; }; before=$(leases); "

	// interfaces has ifupdown, or ifupdown2, manage the uplink.
	interfaces = "printf 'auto lo\niface lo inet loopback\nauto eth0\niface eth0 inet static\n address 192.0.2.1/24\n gateway 192.0.2.2\n' > /etc/network/interfaces; "

	// netplan has a renderer manage the uplink, and all devices with the names that veths have.
	netplan = seenByUdev + `printf '[main]\ndns=none\n' > /etc/NetworkManager/conf.d/site.conf; systemctl mask -q NetworkManager-dispatcher
printf 'network:\n  version: 2\n  renderer: %s\n  ethernets:\n    zall: {match: {name: "v*"}, dhcp4: true, optional: true}\n    eth0: {addresses: [192.0.2.1/24], routes: [{to: default, via: 192.0.2.2}]}\n' > /etc/netplan/site.yaml
chmod 600 /etc/netplan/site.yaml; ` + netplanApply
	netplanApply = "netplan apply; " + uplinkBack
	uplinkBack   = "for i in $(seq 200); do ip route show default | grep -q eth0 && break; sleep 0.1; done; ip route show default | grep eth0"

	// connManUplink has ConnMan manage the uplink.
	connManUplink = seenByUdev + `mkdir -p /var/lib/connman; printf '[service_uplink]\nType=ethernet\nMAC=%s\nIPv4=192.0.2.1/24/192.0.2.2\nIPv6=off\n' "$(cat /sys/class/net/eth0/address)" > /var/lib/connman/site.config
printf '[General]\nNetworkInterfaceBlacklist=veth,sbr0\n' > /etc/connman/main.conf; systemctl start connman; ` + uplinkBack

	// shorewall lets the host be asked for pages, and lets boxes answer what the host asks.
	shorewall = `cd /etc/shorewall; printf 'fw firewall\nnet ipv4\n' > zones; printf '?FORMAT 2\nnet eth0 -\n' > interfaces; printf 'fw all ACCEPT\nnet all DROP\nall all REJECT\n' > policy
printf '?SECTION NEW\nACCEPT net fw tcp 80\n' > rules; printf 'run_iptables -I INPUT -i sbr0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n' > started`

	keepalived = `printf 'vrrp_instance V1 {\n state MASTER\n interface eth0\n virtual_router_id 51\n advert_int 1\n use_vmac\n vmac_xmit_base\n virtual_ipaddress {\n 192.0.2.100/24\n }\n virtual_routes {\n 198.18.0.0/15 via 192.0.2.2 dev eth0\n }\n}\n' > /etc/keepalived/keepalived.conf`
	isMaster   = "; for i in $(seq 100); do ip addr | grep -qF 192.0.2.100/ && break; sleep 0.1; done; ip addr | grep -F 192.0.2.100/"

	bird = `printf 'router id 192.0.2.1;\nprotocol device { }\nprotocol direct { ipv4; ipv6; }\nprotocol kernel { ipv4 { import all; export all; }; learn; }\nprotocol kernel { ipv6 { export all; }; }\nprotocol static { ipv4; route 0.0.0.0/0 via 192.0.2.2; }\n' > /etc/bird/bird.conf`

	// tuned has no setting but of the network: all others would be the machine's.
	tuned = `mkdir -p /etc/tuned/profiles/site; printf '[main]\nsummary=site\n[sysctl]\nnet.ipv4.ip_forward=0\nnet.ipv4.conf.all.rp_filter=1\nnet.ipv4.conf.default.rp_filter=1\n' > /etc/tuned/profiles/site/tuned.conf`

	sysctls = `printf 'net.ipv4.ip_forward=0\nnet.ipv4.conf.all.rp_filter=1\nnet.ipv4.conf.*.rp_filter=1\nnet.ipv4.conf.all.forwarding=0\nnet.ipv6.conf.all.forwarding=0\nnet.ipv4.conf.sbr0.route_localnet=0\n' > /etc/sysctl.d/90-site.conf`

	libvirt = "systemctl start virtlogd libvirtd"

	// cloudInit has cloud-init write the files of systemd-networkd, from a seed on the disk.
	cloudInit = seenByUdev + `mkdir -p /var/lib/cloud/seed/nocloud /etc/cloud/cloud.cfg.d; cd /var/lib/cloud/seed/nocloud; echo 'instance-id: one' > meta-data; echo '#cloud-config' > user-data
printf 'version: 2\nethernets:\n  eth0:\n    addresses: [192.0.2.1/24]\n    gateway4: 192.0.2.2\n' > network-config
printf 'datasource_list: [ NoCloud ]\nsystem_info:\n  network:\n    renderers: [networkd]\n    activators: [networkd]\n' > /etc/cloud/cloud.cfg.d/90-site.cfg
systemctl start systemd-networkd; cloud-init init --local > /dev/null; ls /etc/systemd/network/10-cloud-init-eth0.network; networkctl reload`

	// renames is a site's file by which udev gives devices names, and trigger what has udev look at all devices anew.
	renames = `mkdir -p /etc/systemd/network; printf '[Match]\nOriginalName=%s\n[Link]\nName=%s\n' > /etc/systemd/network/10-site.link; udevadm control --reload; `
	trigger = "udevadm trigger --settle --subsystem-match=net --action="
	unnamed = "; rm -f /etc/systemd/network/10-site.link; udevadm control --reload"
)

func managements() []management {
	return []management{
		{name: "ufw", boot: testhost.NewWithNeighbours, sample: true,
			acts: []string{"ufw --force enable", "ufw reload", "ufw default deny routed", "systemctl restart ufw", "ufw --force disable"}},
		{name: "udev", boot: testhost.New, sample: true,
			acts: []string{trigger + "add", trigger + "change", trigger + "move", fmt.Sprintf(renames, "veth*", "site0") + trigger + "add" + unnamed,
				fmt.Sprintf(renames, "sbr0", "br-site") + trigger + "add" + unnamed, "systemctl restart systemd-udevd"}},
		{name: "nftables", boot: testhost.New, setup: nftConf("policy accept"),
			acts: []string{"systemctl restart nftables", "systemctl reload nftables", "systemctl stop nftables", "systemctl start nftables"}},
		{name: "Docker", boot: testhost.NewWithNeighbours,
			acts: []string{"systemctl start docker", "systemctl reset-failed docker; systemctl restart docker", "systemctl stop docker docker.socket"}},
		{name: "NetworkManager", boot: testhost.NewWithNeighbours, setup: nmUplink,
			acts: []string{"nmcli general reload", "nmcli connection reload", "nmcli device reapply eth0", "nmcli -w 20 connection down uplink; nmcli -w 20 connection up uplink",
				"systemctl restart NetworkManager; nmcli -w 20 connection up uplink", "nmcli networking off; nmcli networking on; nmcli -w 20 connection up uplink", "systemctl stop NetworkManager"}},
		{name: "networkd", boot: testhost.New, setup: networkdUplink,
			acts: []string{"networkctl reload", "networkctl reconfigure eth0; /lib/systemd/systemd-networkd-wait-online -i eth0 --timeout 20",
				"networkctl down eth0; networkctl up eth0; /lib/systemd/systemd-networkd-wait-online -i eth0 --timeout 20", "systemctl restart systemd-networkd", "systemctl stop systemd-networkd"}},
		{name: "dhclient", boot: testhost.NewWithManagers, setup: lender + dhclient, client: asksLent,
			acts: []string{dhclient, strings.Replace(dhclient, "-1", "-r", 1) + "; " + dhclient,
				lentAway + dhclient}},
		{name: "dhcpcd", boot: testhost.NewWithFurther, setup: dhcpcdUplinks, client: asksLent,
			acts: []string{leases + "dhcpcd -n; " + leasedAnew, leases + "dhcpcd -k lan0; dhcpcd lan0; " + leasedAnew, leases + "systemctl restart dhcpcd; " + leasedAnew, "systemctl stop dhcpcd"}},
		{name: "dhcpcd without a server", boot: testhost.NewWithFurther, setup: dhcpcdUplinks,
			acts: []string{"systemctl stop lender; " + lost, isLost, leases + lend + "; dhcpcd -n; " + leasedAnew}},
		{name: "ifupdown", boot: testhost.NewWithManagers, setup: interfaces + "ifdown --force eth0; ifup eth0",
			acts: []string{"ifdown eth0; ifup eth0", "ifdown -a; ifup -a", "systemctl restart networking", "systemctl stop networking; systemctl start networking"}},
		{name: "ifupdown2", boot: testhost.NewWithFurther, setup: interfaces + "systemctl start networking",
			acts: []string{"ifreload -a", "ifreload -a -f", "ifdown eth0; ifup eth0", "ifdown -a; ifup -a", "systemctl reload networking", "systemctl restart networking"}},
		{name: "netplan, by networkd", boot: testhost.NewWithFurther, setup: "systemctl start systemd-networkd; " + fmt.Sprintf(netplan, "networkd"),
			acts: []string{netplanApply, "sed -i 's,192.0.2.1/24,&\\, 192.0.2.77/24,' /etc/netplan/site.yaml; " + netplanApply}},
		{name: "netplan, by NetworkManager", boot: testhost.NewWithFurther, setup: fmt.Sprintf(netplan, "NetworkManager"),
			acts: []string{netplanApply, "systemctl restart NetworkManager; " + uplinkBack, "nmcli networking off; nmcli networking on; " + uplinkBack}},
		{name: "ConnMan", boot: testhost.NewWithFurther, setup: connManUplink,
			acts: []string{"systemctl restart connman; " + uplinkBack, "connmanctl disable ethernet; connmanctl enable ethernet; " + uplinkBack}},
		{name: "Shorewall", boot: testhost.NewWithFurther, setup: shorewall,
			acts: []string{"shorewall start", "shorewall restart", "shorewall reload", "shorewall stop", "shorewall start; shorewall clear"}},
		{name: "keepalived", boot: testhost.NewWithFurther, setup: keepalived,
			acts: []string{"systemctl start keepalived" + isMaster, "systemctl reload keepalived" + isMaster, "systemctl restart keepalived" + isMaster, "systemctl stop keepalived"}},
		{name: "BIRD", boot: testhost.NewWithFurther, setup: bird,
			acts: []string{"systemctl start bird", "birdc configure; birdc restart all", "systemctl restart bird", "systemctl stop bird"}},
		{name: "TuneD", boot: testhost.NewWithFurther, setup: tuned,
			acts: []string{"systemctl start tuned; tuned-adm profile site", "systemctl restart tuned", "tuned-adm off; systemctl stop tuned"}},
		{name: "libvirt", boot: testhost.NewWithFurther, setup: libvirt,
			acts: []string{"virsh net-start default", "virsh net-destroy default; virsh net-start default",
				"virsh net-destroy default; echo 'firewall_backend = \"iptables\"' > /etc/libvirt/network.conf; systemctl restart libvirtd; virsh net-start default", "systemctl restart libvirtd", "virsh net-destroy default"}},
		{name: "sysctl", boot: testhost.New, setup: sysctls, sample: true,
			acts: []string{"sysctl -q --system", "systemctl restart systemd-sysctl", "sysctl -qw net.ipv6.conf.all.disable_ipv6=1", "sysctl -qw net.ipv6.conf.all.disable_ipv6=0"}},
		{name: "cloud-init", boot: testhost.NewWithManagers, setup: cloudInit,
			acts: []string{"cloud-init clean; cloud-init init --local > /dev/null; networkctl reload",
				"sed -i 's,192.0.2.1/24,192.0.2.1/24\\, 192.0.2.77/24,' /var/lib/cloud/seed/nocloud/network-config; cloud-init clean; cloud-init init --local > /dev/null; " +
					"networkctl reload; networkctl reconfigure eth0; /lib/systemd/systemd-networkd-wait-online -i eth0 --timeout 20; ip addr show eth0 | grep 192.0.2.77"}},
		{name: "netfilter-persistent", boot: testhost.NewWithManagers,
			acts: []string{"systemctl start netfilter-persistent", "netfilter-persistent flush", "netfilter-persistent save; systemctl restart netfilter-persistent", "netfilter-persistent reload",
				"printf '*filter\\nCOMMIT\\n*nat\\nCOMMIT\\n' > /etc/iptables/rules.v4; netfilter-persistent reload", "systemctl stop netfilter-persistent"}},
		{name: "systemd-resolved", boot: testhost.NewWithManagers, setup: "mkdir -p /etc/systemd/resolved.conf.d; printf '[Resolve]\\nDNS=192.0.2.2\\n' > /etc/systemd/resolved.conf.d/site.conf; " +
			"systemctl start systemd-resolved; ln -sf /run/systemd/resolve/stub-resolv.conf /etc/resolv.conf",
			acts: []string{"systemctl restart systemd-resolved", "resolvectl dns eth0 192.0.2.78", "systemctl reload-or-restart systemd-resolved", "systemctl stop systemd-resolved", "systemctl start systemd-resolved"}},
		{name: "Podman", boot: testhost.NewWithManagers,
			acts: []string{"podman network create site", "podman network reload --all", "podman network rm site"}},
	}
}

// Whatever the programs do that manage a host, at start, stop, restart, reload and reconnect: an enabled box is served.
func TestBesideManagement(t *testing.T) {
	sideBySide(t)
	for _, m := range managements() {
		t.Run(m.name, func(t *testing.T) {
			if !m.sample && !soak() {
				t.Skip("at full length only: make soak")
			}
			t.Parallel()
			h := bootHost(t, m.boot)
			h.sh(m.setup)
			h.must("boxrun", "enable", "web")
			h.must("boxrun", "up", "web")
			h.awaitUnit("boxrun-watch@host.service", "active")
			for _, act := range m.acts {
				h.isManaged(act, m.client)
			}
			h.must("boxrun", "restart", "web") // as the program has it by now
			h.page()
		})
	}
}

// isManaged does what a program does to a host, and wants clients to be served soon after, and status to find all in place.
func (h host) isManaged(act, client string) {
	h.t.Helper()
	ask := func() testhost.Result {
		if client != "" {
			return h.run("sh", "-c", client)
		}
		r, err := h.Client(h.t.Context(), "curl", "-sSf", "-o", "/dev/null", "-m", "0.3", webURL)
		if err != nil {
			h.t.Fatal(err)
		}
		return r
	}
	served := func() string {
		if r := ask(); r.Code != 0 {
			return r.String()
		}
		if got := h.must("boxrun", "status", "web"); !strings.Contains(got, "in place") {
			return got
		}
		return ""
	}
	h.sh(act)
	done := time.Now()
	word := h.sh("boxrun status --json web | jq -r '[.health.word] + .drift | join(\"; \")'")
	said := eventually(promised(2*time.Second), served)
	took := time.Since(done).Round(time.Millisecond)
	if said != "" {
		h.t.Errorf("%v after %q: %s", took, act, said)
	}
	h.t.Logf("%s: status said %q, and all was well %v later", act, strings.TrimSpace(word), took)
}

// A site's file of udev's that renames veths, or the bridge, is named with what to do: a start is refused, as it would fail.
func TestAFileOfUdevsThatRenames(t *testing.T) {
	h := newHost(t)
	h.sh(quickLooks)
	h.must("boxrun", "up", "web")
	for _, c := range []struct{ pattern, devices string }{{"veth*", "veths"}, {"sbr0", "sbr0"}} {
		h.sh(fmt.Sprintf(renames, c.pattern, "site0"))
		named := []string{"udev gives " + c.devices + " another name, by /etc/systemd/network/10-site.link", "[Link]\\nNamePolicy=keep\\n' > /etc/systemd/network/00-boxrun.link"}
		h.toldByAll(named...)
		h.must("boxrun", "down", "web")
		r := h.run("boxrun", "up", "web")
		if r.Code != 1 || !containsAll(r.Stderr, named) {
			t.Errorf("up: %v\nwant a refusal that says %q", r, named)
		}
		h.sh(hinted(r.Stderr, "printf '"))
		h.must("boxrun", "up", "web")
		h.sh(trigger + "add")
		h.page()
		if got := h.must("boxrun", "status", "web"); !strings.Contains(got, "in place") {
			t.Errorf("with the file of the hint, status says\n%s", got)
		}
		h.sh("rm /etc/systemd/network/00-boxrun.link" + unnamed)
	}
}

// A program that asks for addresses of the host on the device of a box, where root in the box may answer, is named with its file
// and what to do: after that it leaves boxes alone.
func TestAProgramThatAsksForAddressesOnBoxes(t *testing.T) {
	sideBySide(t)
	if !soak() {
		t.Skip("at full length only: make soak")
	}
	const other = "ip link add other0 type veth peer name other1; ip link set other1 up; ip link set other0 up; for i in $(seq 200); do has other0 && break; sleep 0.1; done; has other0; "
	const noBox = "if has $(ip -br link show master sbr0 | cut -d @ -f 1); then exit 1; fi"
	for _, c := range []struct{ program, start, file, fix, devices string }{
		{"dhcpcd", "systemctl start dhcpcd", "/etc/dhcpcd.conf", "sed -i '1i denyinterfaces", `has() { journalctl -u dhcpcd -o cat | grep "^$1:"; }; ` + other},
		{"ConnMan", strings.Replace(connManUplink, "veth,sbr0", "ve-", 1), "/etc/connman/main.conf", "", `has() { connmanctl services | grep $(tr -d : < /sys/class/net/$1/address); }; has eth0; `},
	} {
		t.Run(c.program, func(t *testing.T) {
			h := bootHost(t, testhost.NewWithFurther)
			h.sh(c.start)
			h.must("boxrun", "up", "web")
			named := []string{c.program + " asks for addresses of this host on veth", c.file + " does not leave it out"}
			h.toldByAll(named...)
			if c.fix != "" {
				h.sh(hinted(h.run("boxrun", "up", "web").Stderr, c.fix))
			} else {
				h.sh("printf '[General]\nNetworkInterfaceBlacklist=vmnet,vboxnet,virbr,ifb,ve-,vb-,veth,sbr0\n' > /etc/connman/main.conf; systemctl restart connman; " + uplinkBack)
			}
			h.must("boxrun", "restart", "web")
			h.page()
			if got := h.must("boxrun", "status", "web"); !strings.Contains(got, "in place") {
				t.Errorf("with what the hint says, status says\n%s", got)
			}
			h.sh(c.devices + noBox) // what the program has looked at since
		})
	}
}
