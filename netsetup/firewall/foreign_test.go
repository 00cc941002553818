package firewall

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"boxrun/netsetup/nstest"
	"boxrun/netsetup/rules"
)

// What other tools leave in "iptables -t nat -S".
const (
	dockerRules = `-P PREROUTING ACCEPT
-P INPUT ACCEPT
-P OUTPUT ACCEPT
-P POSTROUTING ACCEPT
-N DOCKER
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A POSTROUTING -s 172.17.0.2/32 -d 172.17.0.2/32 -p tcp -m tcp --dport 80 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
-A DOCKER -d 127.0.0.1/32 ! -i docker0 -p tcp -m tcp --dport 5432 -j DNAT --to-destination 172.17.0.3:5432
-A DOCKER -d 192.0.2.1/32 ! -i docker0 -p udp -m udp --dport 53 -j DNAT --to-destination 172.17.0.4:53`

	portmapRules = `-P PREROUTING ACCEPT
-N CNI-3d1b27f4c5bd2fd1d0ca3b94
-N CNI-DN-3d1b27f4c5bd2fd1d0ca3
-N CNI-HOSTPORT-DNAT
-N CNI-HOSTPORT-MASQ
-N CNI-HOSTPORT-SETMARK
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A POSTROUTING -m comment --comment "CNI portfwd requiring masquerade" -j CNI-HOSTPORT-MASQ
-A CNI-DN-3d1b27f4c5bd2fd1d0ca3 -s 10.22.0.0/16 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK
-A CNI-DN-3d1b27f4c5bd2fd1d0ca3 -s 127.0.0.1/32 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK
-A CNI-DN-3d1b27f4c5bd2fd1d0ca3 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.22.0.2:80
-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \"bridge\" id: \"812\"" -m multiport --dports 8080 -j CNI-DN-3d1b27f4c5bd2fd1d0ca3
-A CNI-HOSTPORT-SETMARK -m comment --comment "CNI portfwd masquerade mark" -j MARK --set-xmark 0x2000/0x2000`

	netavarkRules = `-N NETAVARK-DN-1D8721804F16F
-N NETAVARK-HOSTPORT-DNAT
-N NETAVARK-HOSTPORT-SETMARK
-A PREROUTING -m addrtype --dst-type LOCAL -j NETAVARK-HOSTPORT-DNAT
-A OUTPUT -m addrtype --dst-type LOCAL -j NETAVARK-HOSTPORT-DNAT
-A NETAVARK-DN-1D8721804F16F -s 10.88.0.0/16 -p tcp -m tcp --dport 9000:9010 -j NETAVARK-HOSTPORT-SETMARK
-A NETAVARK-DN-1D8721804F16F -p tcp -m tcp --dport 9000:9010 -j DNAT --to-destination 10.88.0.2:9000-9010/9000
-A NETAVARK-HOSTPORT-DNAT -p tcp -m tcp --dport 9000:9010 -m comment --comment "dnat name: podman id: 36d0" -j NETAVARK-DN-1D8721804F16F
-A NETAVARK-HOSTPORT-SETMARK -j MARK --set-xmark 0x2000/0x2000`

	kubeRules = `-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A KUBE-NODEPORTS -p tcp -m comment --comment "default/web" -m tcp --dport 30080 -j KUBE-EXT-WEB
-A KUBE-EXT-WEB -j KUBE-SVC-WEB
-A KUBE-SVC-WEB -m comment --comment "default/web -> 10.244.0.5:80" -j KUBE-SEP-WEB
-A KUBE-SEP-WEB -p tcp -m comment --comment "default/web" -m tcp -j DNAT --to-destination 10.244.0.5:80
-A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m comment --comment "default/kubernetes:https cluster IP" -m tcp --dport 443 -j KUBE-SVC-WEB
-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS`

	ourRules = `-A PREROUTING ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -m comment --comment boxrun:host -j BOXRUN-DNAT
-A OUTPUT -m addrtype --dst-type LOCAL -m comment --comment boxrun:host -j BOXRUN-DNAT
-A BOXRUN-DNAT -m comment --comment boxrun:web -j BOXRUN-DN-web
-A BOXRUN-DN-web -p tcp -m tcp --dport 8080 -m comment --comment "boxrun:web" -j DNAT --to-destination 10.22.0.2:80`
)

func tcpPort(port uint16) Ports { return Ports{Proto: "tcp", First: port, Last: port} }

// natTable reads lines of "iptables -t nat -S". The rules keep the text that iptables printed.
func natTable(t *testing.T, lines string) *rules.Table {
	t.Helper()
	nat := parsed(t, "*nat\n"+lines)[0]
	for _, c := range nat.Chains {
		for i := range c.Rules {
			c.Rules[i].Text = c.Rules[i].Printed
		}
	}
	return nat
}

func TestDiversions(t *testing.T) {
	hostIP := func(a Ports, ip string) Ports {
		a.IP = netip.MustParseAddr(ip)
		return a
	}
	many := Ports{Proto: "tcp", First: 9005, Last: 9104}
	dns := Ports{Proto: "udp", First: 53, Last: 53}
	const docker8080 = "8080/tcp a DNAT rule of Docker: -A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80"
	for _, test := range []struct {
		name, rules string
		port        Ports
		want        string
	}{
		{"docker", dockerRules, tcpPort(8080), docker8080},
		{"docker, one address of the host", dockerRules, hostIP(tcpPort(8080), "192.0.2.1"), docker8080},
		{"docker's port inside is no host port", dockerRules, tcpPort(80), ""},
		{"docker on 127.0.0.1, any address", dockerRules, tcpPort(5432), "5432/tcp a DNAT rule of Docker: -A DOCKER -d 127.0.0.1/32 ! -i docker0 -p tcp -m tcp --dport 5432 -j DNAT --to-destination 172.17.0.3:5432"},
		{"docker on 127.0.0.1, another address", dockerRules, hostIP(tcpPort(5432), "192.0.2.1"), ""},
		{"docker udp", dockerRules, dns, "53/udp a DNAT rule of Docker: -A DOCKER -d 192.0.2.1/32 ! -i docker0 -p udp -m udp --dport 53 -j DNAT --to-destination 172.17.0.4:53"},
		{"docker udp, asked for tcp", dockerRules, tcpPort(53), ""},
		{"CNI portmap", portmapRules, tcpPort(8080), "8080/tcp a DNAT rule of CNI portmap: -A CNI-DN-3d1b27f4c5bd2fd1d0ca3 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.22.0.2:80"},
		{"podman range, lowest common port", netavarkRules, many, "9005/tcp a DNAT rule of podman: -A NETAVARK-DN-1D8721804F16F -p tcp -m tcp --dport 9000:9010 -j DNAT --to-destination 10.88.0.2:9000-9010/9000"},
		{"Kubernetes node port", kubeRules, tcpPort(30080), "30080/tcp a DNAT rule of Kubernetes: -A KUBE-SEP-WEB -p tcp -m comment --comment \"default/web\" -m tcp -j DNAT --to-destination 10.244.0.5:80"},
		{"a cluster's address is not the host's", kubeRules, tcpPort(443), ""},
		{"ours", ourRules, tcpPort(8080), ""},
		{"ours without the comments", strings.NewReplacer("-m comment --comment boxrun:web ", "", `-m comment --comment "boxrun:web" `, "", "-m comment --comment boxrun:host ", "").Replace(ourRules), tcpPort(8080), ""},
		{"a chain nothing leads to", "-A OLD -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.0.5", tcpPort(80), ""},
		{"plain redirect", "-A PREROUTING -i eth0 -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 8080", tcpPort(80),
			"80/tcp a REDIRECT rule: -A PREROUTING -i eth0 -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 8080"},
		{"multiport", "-A PREROUTING -p tcp -m multiport --dports 22,80:90,443 -j DNAT --to-destination 10.0.0.5", tcpPort(85),
			"85/tcp a DNAT rule: -A PREROUTING -p tcp -m multiport --dports 22,80:90,443 -j DNAT --to-destination 10.0.0.5"},
		{"a comment that looks like options", `-A PREROUTING -p tcp -m tcp --dport 81 -m comment --comment "was --dport 80 -j \"DNAT\"" -j REDIRECT --to-ports 8080`, tcpPort(80), ""},
		{"a comment with quotes", `-A PREROUTING -p tcp -m tcp --dport 81 -m comment --comment "a \" --dport 80 -j DNAT \" b" -j REDIRECT --to-ports 8080`, tcpPort(80), ""},
		{"all addresses but this one", "-A PREROUTING ! -d 192.0.2.1/32 -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 8080", hostIP(tcpPort(80), "192.0.2.1"), ""},
		{"all ports but ssh of one address", "-A PREROUTING -d 192.0.2.1/32 -p tcp -m tcp ! --dport 22 -j DNAT --to-destination 10.0.0.5", tcpPort(22), ""},
		{"all ports of one address", "-A PREROUTING -d 192.0.2.1/32 -j DNAT --to-destination 10.0.0.5", tcpPort(80),
			"80/tcp a DNAT rule: -A PREROUTING -d 192.0.2.1/32 -j DNAT --to-destination 10.0.0.5"},
		{"all ports of another address", "-A PREROUTING -d 192.0.2.1/32 -j DNAT --to-destination 10.0.0.5", hostIP(tcpPort(80), "192.0.2.7"), ""},
		{"transparent proxy", "-A PREROUTING -i wg0 -p tcp -j REDIRECT --to-ports 3128", tcpPort(80), ""},
		{"only for what is not the host's", "-A PREROUTING -p tcp -m addrtype ! --dst-type LOCAL -m tcp --dport 80 -j REDIRECT --to-ports 3128", tcpPort(80), ""},
		{"an agent's address on the cloud's link", "-A OUTPUT -d 169.254.170.2/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 127.0.0.1:51679", tcpPort(80), ""},
		{"jump narrower than the rule", "-A PREROUTING -p tcp -m tcp --dport 80 -j MINE\n-A MINE -p tcp -m multiport --dports 80,81 -j REDIRECT --to-ports 8", tcpPort(81), ""},
		{"rule narrower than the jump", "-A PREROUTING -d 192.0.2.0/24 -j MINE\n-A MINE -d 192.0.2.9/32 -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 8", tcpPort(80), ""},
		{"rule that the jump never leads to", "-A PREROUTING -d 10.0.0.0/8 -j MINE\n-A MINE -d 192.0.2.1/32 -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 8", tcpPort(80), ""},
		{"chains that turn in circles", "-A PREROUTING -j A\n-A A -j B\n-A B -j A\n-A B -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 8", tcpPort(80),
			"80/tcp a REDIRECT rule: -A B -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 8"},
	} {
		t.Run(test.name, func(t *testing.T) {
			local := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.7")}
			got := takenLines(t, test.rules, []Ports{test.port}, local...)
			if got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}

func TestDiversionsWithoutLocalAddresses(t *testing.T) {
	const rule = "-A PREROUTING -d 198.51.100.9/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.0.5"
	want := "80/tcp a DNAT rule: " + rule
	if got := takenLines(t, rule, []Ports{tcpPort(80)}); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// takenLines writes one diversion a line.
func takenLines(t *testing.T, lines string, asked []Ports, local ...netip.Addr) string {
	t.Helper()
	var taken []string
	for _, d := range Diversions(natTable(t, lines), asked, local...) {
		taken = append(taken, fmt.Sprintf("%d/%s %s", d.Port, asked[d.Asked].Proto, d.By))
	}
	return strings.Join(taken, "\n")
}

// The texts above are what the tools' rules look like; this is what iptables makes of them, with either backend.
func TestDiversionsAsIptablesSays(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	for _, iptables := range []string{"iptables-nft", "iptables-legacy"} {
		t.Run(iptables, func(t *testing.T) {
			if _, err := exec.LookPath(iptables); err != nil {
				nstest.CannotRun(t, "no %s here", iptables)
			}
			for _, rule := range []string{
				"-N DOCKER",
				"-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER",
				"-A DOCKER ! -i docker0 -p tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80",
				"-A PREROUTING -p tcp -m multiport --dports 90,100:110 -j REDIRECT --to-ports 9",
				"-A PREROUTING -p tcp --dport 120 -m comment --comment boxrun:web -j REDIRECT --to-ports 9",
			} {
				nstest.Run(t, append([]string{iptables, "-t", "nat"}, strings.Fields(rule)...)...)
			}
			got := takenLines(t, nstest.Run(t, iptables, "-t", "nat", "-S"),
				[]Ports{tcpPort(8080), {Proto: "tcp", First: 95, Last: 144}, tcpPort(120)})
			want := "8080/tcp a DNAT rule of Docker: -A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80\n" +
				"100/tcp a REDIRECT rule: -A PREROUTING -p tcp -m multiport --dports 90,100:110 -j REDIRECT --to-ports 9"
			if got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}
