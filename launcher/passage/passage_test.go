package passage

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"boxrun/launcher/box"
	"boxrun/netsetup"
	"boxrun/profiles"
)

// portBox is a box with the ports given, at 10.22.0.2.
func portBox(t *testing.T, network string) *box.Box {
	t.Helper()
	p, err := profiles.Parse("web.toml", []byte("image = \"/srv/web\"\n[network]\nsubnet6 = \"\"\n"+network), "")
	if err != nil {
		t.Fatal(err)
	}
	return &box.Box{Name: "web", Profile: p, Addr: netip.MustParseAddr("10.22.0.2")}
}

func TestTrips(t *testing.T) {
	external := netsetup.External{Name: "eth0", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}
	var got []string
	b := portBox(t, `ports = ["8080:80", "192.0.2.9:53:53/udp", "127.0.0.1:5432:5432"]`+"\nallow_from = [\"198.51.100.0/24\"]\n")
	for _, trip := range trips(b, external) {
		p := trip.packet
		got = append(got, fmt.Sprintf("%s: %s>%s %s %v:%d>%v:%d reply=%v", trip.what, p.In, p.Out, p.Proto, p.Src, p.SPort, p.Dst, p.DPort, p.Reply))
	}
	want := `what clients send to port 8080/tcp: eth0>sbr0 tcp 198.51.100.0:40000>192.0.2.1:8080 reply=false
what the box answers from port 8080/tcp: sbr0>eth0 tcp 10.22.0.2:80>198.51.100.0:40000 reply=true
what clients send to port 53/udp: eth0>sbr0 udp 198.51.100.0:40000>192.0.2.9:53 reply=false
what the box answers from port 53/udp: sbr0>eth0 udp 10.22.0.2:53>198.51.100.0:40000 reply=true
what the box sends out: sbr0>eth0 tcp 10.22.0.2:40000>203.0.113.1:443 reply=false
what others answer to the box: eth0>sbr0 tcp 203.0.113.1:443>10.22.0.2:40000 reply=true
what the host itself sends to the box: >sbr0 tcp 10.22.0.1:40000>10.22.0.2:80 reply=false
what the box answers to the host itself: sbr0> tcp 10.22.0.2:80>10.22.0.1:40000 reply=true`
	if strings.Join(got, "\n") != want {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), want)
	}
}

func TestFirewalldSays(t *testing.T) {
	for _, c := range []struct {
		name, network string
		view          *netsetup.FirewalldView
		want          string
	}{
		{"none runs", `ports = ["80"]`, nil, ""},
		{"a zone of its own", `ports = ["80"]`, &netsetup.FirewalldView{Zone: "boxrun"}, ""},
		{"trusted", `bridge = "br-lab"`, &netsetup.FirewalldView{Zone: "trusted", Trusting: true},
			"firewalld has br-lab in its zone trusted, so boxes reach every port of this host\n"},
		{"strict, with ports", `ports = ["8080:80"]`, &netsetup.FirewalldView{Zone: "boxrun", StrictPorts: true},
			"firewalld has StrictForwardPorts=yes: it rejects published ports, the host's own connections to them included\n"},
		{"strict, without ports", "", &netsetup.FirewalldView{Zone: "boxrun", StrictPorts: true}, ""},
	} {
		var got strings.Builder
		for _, said := range Firewalld(portBox(t, c.network), c.view) {
			got.WriteString(said.Text + "\n")
			if said.Hint == "" {
				t.Errorf("%s: %q has no hint", c.name, said.Text)
			}
		}
		if got.String() != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", c.name, got.String(), c.want)
		}
	}
}

func TestWhoeverWantsAPort(t *testing.T) {
	const share = "publish another host port, or "
	for rule, want := range map[string]string{
		"iptables -t nat -A KUBE-SEP-X -p tcp -j DNAT --to-destination 10.244.0.5:80":                share + "give the Service another nodePort",
		"iptables -t nat -A DOCKER -p tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80":       share + "have whoever made that rule take another one",
		"nft rule ip kube-proxy service-X-default/any/tcp/ meta l4proto tcp dnat to 10.244.0.5:8080": share + "give the Service another nodePort",
	} {
		if got := ShareHint(rule); got != want {
			t.Errorf("%s: got %s, want %s", rule, got, want)
		}
	}
	const kube, site = "nft rule ip kube-proxy service-X handle 65", "nft rule ip site pre handle 7"
	if got, want := RemovalHint(kube), share+"give the Service another nodePort"; got != want {
		t.Errorf("%s: got %s, want %s", kube, got, want)
	}
	if got, want := RemovalHint(site), share+"remove that rule: nft delete rule ip site pre handle 7"; got != want {
		t.Errorf("%s: got %s, want %s", site, got, want)
	}
}

func TestRemedies(t *testing.T) {
	for _, c := range []struct{ rule, want string }{
		{"nft chain inet site forward { policy drop; }", `insert rule inet site forward iifname "sbr0" accept;`},
		{"nft rule ip admin fwd handle 7", `insert rule ip admin fwd oifname "sbr0" ct status dnat accept`},
		{"nft rule inet firewalld filter_FORWARD handle 9", `firewall-cmd --permanent --zone=boxrun --change-interface=sbr0`},
		{"iptables -t mangle -A FORWARD -j DROP", "pass before that rule, or remove that rule: iptables -t mangle -D FORWARD -j DROP"},
		{"iptables-legacy -t filter -P FORWARD DROP", "iptables-legacy -t filter -P FORWARD ACCEPT"},
		{"nft chain arp site in { policy drop; }", "nft -a list chain arp site in"},
	} {
		if got := PassHint(c.rule, "sbr0"); !strings.Contains(got, c.want) {
			t.Errorf("%s:\ngot  %s\nwant %q in it", c.rule, got, c.want)
		}
	}
}

func TestOwnHint(t *testing.T) {
	for _, c := range []struct{ rule, want string }{
		{"iptables -t filter -P INPUT DROP", "iptables -I INPUT -i sbr0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; iptables -I OUTPUT -o sbr0 -j ACCEPT"},
		{"ip6tables-legacy -t filter -A reject -j DROP", "ip6tables-legacy -I INPUT -i sbr0 "},
		{"nft chain inet site in { policy drop; }", `insert rule inet site in iifname "sbr0" ct state established,related accept;`},
		{"iptables -t raw -A OUTPUT -j DROP", "remove that rule: iptables -t raw -D OUTPUT -j DROP"},
		{"nft chain bridge site in { policy drop; }", "nft -a list chain bridge site in"},
	} {
		if got := OwnHint(c.rule, "sbr0"); !strings.Contains(got, c.want) {
			t.Errorf("%s:\ngot  %s\nwant %q in it", c.rule, got, c.want)
		}
	}
}
