package snapshot

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"boxrun/netsetup/nstest"
)

// lookNow takes a snapshot that has to work.
func lookNow(t *testing.T) Snapshot {
	t.Helper()
	s, err := Look()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func listed(changes []Change) string {
	var b strings.Builder
	for _, c := range changes {
		fmt.Fprintf(&b, "%s\n    %s\n", c.What, c.Revert)
	}
	return b.String()
}

// snapshotHost is a host with something of everything.
const snapshotHost = `
ip link add eth0 type veth peer name far
ip link set eth0 up; ip link set far up
ip link add br0 address 02:00:00:00:00:01 type bridge
ip addr add 192.0.2.1/24 brd + dev eth0
ip addr add 2001:db8::1/64 dev eth0 nodad
ip route add default via 192.0.2.2 metric 100
ip route add 198.51.100.0/24 via 192.0.2.3 dev eth0 table 7
ip route add blackhole 203.0.113.0/24
ip route add 203.0.113.0/25 via inet6 fe80::2 dev eth0
ip -6 route add default via 2001:db8::2
ip rule add pref 1000 from 192.0.2.0/24 fwmark 0x1/0xff lookup 7
ip rule add pref 1001 from 192.0.2.0/25 dsfield 0x10 prohibit
ip rule add pref 1002 ipproto tcp dport 80-90 sport 1024-65534 uidrange 0-0 realms 5/6 goto 32766
ip rule add pref 1003 l3mdev
ip rule add pref 1004 nop
iptables -A INPUT -p tcp --dport 22 -j ACCEPT
iptables -A INPUT -m comment --comment "two words" -j ACCEPT
iptables -t nat -N MINE
iptables -t nat -A POSTROUTING -o eth0 -j MASQUERADE
nft add table inet site
nft add chain inet site in '{ type filter hook input priority 0; policy accept; }'
nft add rule inet site in tcp dport 8080 drop
`

// Whatever is done to a host by hand is told, and the commands told take it back: the host is as it was, and nothing is
// left to tell.
func TestChangesAreToldAndTakenBack(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	nstest.Run(t, "sh", "-ec", snapshotHost)
	for _, test := range []struct{ name, do, want string }{
		{"nothing", "true", ""},
		{"an address", "ip addr del 192.0.2.1/24 dev eth0; ip addr add 192.0.2.1/24 brd + dev eth0; ip addr add 192.0.2.77/24 dev eth0",
			"address 192.0.2.77/24 on eth0 is new\n    ip addr del 192.0.2.77/24 dev eth0\n" +
				"route 198.51.100.0/24 via 192.0.2.3 dev eth0 table 7 is gone\n    ip route add 198.51.100.0/24 via 192.0.2.3 dev eth0 table 7\n" +
				"route default via 192.0.2.2 dev eth0 metric 100 is gone\n    ip route add default via 192.0.2.2 dev eth0 metric 100\n" +
				"route 203.0.113.0/25 via inet6 fe80::2 dev eth0 is gone\n    ip route add 203.0.113.0/25 via inet6 fe80::2 dev eth0\n"},
		{"an address of IPv6", "ip addr del 2001:db8::1/64 dev eth0",
			"address 2001:db8::1/64 on eth0 is gone\n    ip addr add 2001:db8::1/64 dev eth0\n"},
		{"a link taken down", "ip link set eth0 down",
			"state of eth0 is down, was up\n    ip link set eth0 up\n" +
				"address 2001:db8::1/64 on eth0 is gone\n    ip addr add 2001:db8::1/64 dev eth0\n" +
				"route 198.51.100.0/24 via 192.0.2.3 dev eth0 table 7 is gone\n    ip route add 198.51.100.0/24 via 192.0.2.3 dev eth0 table 7\n" +
				"route default via 192.0.2.2 dev eth0 metric 100 is gone\n    ip route add default via 192.0.2.2 dev eth0 metric 100\n" +
				"route 203.0.113.0/25 via inet6 fe80::2 dev eth0 is gone\n    ip route add 203.0.113.0/25 via inet6 fe80::2 dev eth0\n" +
				"IPv6 route default via 2001:db8::2 dev eth0 metric 1024 is gone\n" +
				"    ip -6 route add default via 2001:db8::2 dev eth0 metric 1024\n"},
		{"a link", "ip link set eth0 mtu 1400; ip link set br0 up; ip link set far master br0; ip link add new0 type bridge; ip addr add 10.0.0.1/8 dev new0",
			"link new0 is new\n    ip link del new0\n" +
				"master of far is br0, was none\n    ip link set far nomaster\n" +
				"mtu of eth0 is 1400, was 1500\n    ip link set eth0 mtu 1500\n" +
				"state of br0 is up, was down\n    ip link set br0 down\n"},
		{"routes", "ip route replace default via 192.0.2.9 metric 100; ip route del 203.0.113.0/24; ip route del 198.51.100.0/24 table 7; ip route del 203.0.113.0/25",
			"route default via 192.0.2.9 dev eth0 metric 100 is new\n    ip route del default via 192.0.2.9 dev eth0 metric 100\n" +
				"route 198.51.100.0/24 via 192.0.2.3 dev eth0 table 7 is gone\n    ip route add 198.51.100.0/24 via 192.0.2.3 dev eth0 table 7\n" +
				"route default via 192.0.2.2 dev eth0 metric 100 is gone\n    ip route add default via 192.0.2.2 dev eth0 metric 100\n" +
				"route 203.0.113.0/25 via inet6 fe80::2 dev eth0 is gone\n    ip route add 203.0.113.0/25 via inet6 fe80::2 dev eth0\n" +
				"route blackhole 203.0.113.0/24 is gone\n    ip route add blackhole 203.0.113.0/24\n"},
		{"routing rules", "ip rule del pref 1000; ip -6 rule add pref 5 from all to 2001:db8:1::/48 lookup 9",
			"IPv6 routing rule pref 5 from all to 2001:db8:1::/48 lookup 9 is new\n" +
				"    ip -6 rule del pref 5 from all to 2001:db8:1::/48 lookup 9\n" +
				"routing rule pref 1000 from 192.0.2.0/24 to all fwmark 0x1/0xff lookup 7 is gone\n" +
				"    ip rule add pref 1000 from 192.0.2.0/24 to all fwmark 0x1/0xff lookup 7\n"},
		{"routing rules that look up no table", "for p in 1001 1002 1003 1004; do ip rule del pref $p; done",
			"routing rule pref 1001 from 192.0.2.0/25 to all dsfield 0x10 prohibit is gone\n" +
				"    ip rule add pref 1001 from 192.0.2.0/25 to all dsfield 0x10 prohibit\n" +
				"routing rule pref 1002 from all to all ipproto 6 uidrange 0-0 sport 1024-65534 dport 80-90 realms 5/6 goto 32766 is gone\n" +
				"    ip rule add pref 1002 from all to all ipproto 6 uidrange 0-0 sport 1024-65534 dport 80-90 realms 5/6 goto 32766\n" +
				"routing rule pref 1003 from all to all l3mdev is gone\n    ip rule add pref 1003 from all to all l3mdev\n" +
				"routing rule pref 1004 from all to all nop is gone\n    ip rule add pref 1004 from all to all nop\n"},
		{"iptables", "iptables -F INPUT; iptables -P FORWARD DROP; iptables -t nat -X MINE; iptables -N NEW; iptables -A FORWARD -j NEW",
			"rule iptables -t filter -A FORWARD -j NEW is new\n    iptables -t filter -D FORWARD -j NEW\n" +
				"chain iptables -t filter NEW is new\n    iptables -t filter -X NEW\n" +
				"policy of iptables -t filter FORWARD is DROP, was ACCEPT\n    iptables -t filter -P FORWARD ACCEPT\n" +
				"rule iptables -t filter -A INPUT -p tcp -m tcp --dport 22 -j ACCEPT is gone\n" +
				"    iptables -t filter -I INPUT 1 -p tcp -m tcp --dport 22 -j ACCEPT\n" +
				"rule iptables -t filter -A INPUT -m comment --comment \"two words\" -j ACCEPT is gone\n" +
				"    iptables -t filter -I INPUT 2 -m comment --comment \"two words\" -j ACCEPT\n" +
				"chain iptables -t nat MINE is gone\n    iptables -t nat -N MINE\n"},
		{"tables of nft", "nft flush chain inet site in; nft add table ip6 more",
			"nft table ip6 more is new\n    nft delete table ip6 more\n" +
				"nft table inet site is different\n    nft -f - <<'END'\ntable inet site\ndelete table inet site\n" +
				"table inet site {\n\tchain in {\n\t\ttype filter hook input priority filter; policy accept;\n" +
				"\t\ttcp dport 8080 drop\n\t}\n}\nEND\n"},
		{"sysctls", "sysctl -qw net.ipv4.ip_default_ttl=65 net.ipv4.ip_local_port_range='40000 50000'",
			"sysctl net/ipv4/ip_default_ttl is 65, was 64\n    sysctl -w 'net/ipv4/ip_default_ttl=64'\n" +
				"sysctl net/ipv4/ip_local_port_range is 40000 50000, was 32768 60999\n" +
				"    sysctl -w 'net/ipv4/ip_local_port_range=32768 60999'\n"},
		{"boxrun's own", "iptables -N BOXRUN-FWD; iptables -A FORWARD -m comment --comment boxrun:host -j BOXRUN-FWD; ip link add sbr0 type bridge; ip link set sbr0 alias boxrun:sbr0; ip link set sbr0 up; ip addr add 10.22.0.1/16 dev sbr0",
			""},
	} {
		before := lookNow(t)
		nstest.Run(t, "sh", "-ec", test.do)
		changes := before.Changes(lookNow(t))
		if got := listed(changes); got != test.want {
			t.Errorf("%s: got\n%s\nwant\n%s", test.name, got, test.want)
		}
		for _, c := range changes {
			if out, err := exec.Command("bash", "-ec", c.Revert).CombinedOutput(); err != nil {
				t.Errorf("%s: %s: %v: %s", test.name, c.Revert, err, out)
			}
		}
		if left := listed(before.Changes(lookNow(t))); left != "" {
			t.Errorf("%s: left after all commands:\n%s", test.name, left)
		}
	}
}
