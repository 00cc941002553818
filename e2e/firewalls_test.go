package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"boxrun/e2e/testhost"
)

// firewall is something else that manages a host's firewall, with boxrun beside it.
type firewall struct {
	name   string
	start  string            // what starts it, or puts its rules in place
	setup  bool              // boxrun host setup was run before
	reload string            // what it does to its rules now and then; "" for nothing
	says   []string          // what up has to say, on stderr
	doctor map[string]string // what doctor's checks have to tell of it
}

func firewalls() []firewall {
	return []firewall{
		{name: "firewalld", start: "systemctl start firewalld", reload: "firewall-cmd -q --reload",
			says: []string{"zone trusted", "every port of this host", "hint: \"boxrun host setup\""}},
		{name: "firewalld with a setup", start: "systemctl start firewalld", setup: true, reload: "firewall-cmd -q --reload",
			doctor: map[string]string{"firewalld": "sbr0 is in zone boxrun", "docker": "no rules of it"}},
		{name: "firewalld on iptables", start: "sed -i s/^FirewallBackend=.*/FirewallBackend=iptables/ /etc/firewalld/firewalld.conf; " +
			"systemctl start firewalld", setup: true, reload: "firewall-cmd -q --reload"},
		{name: "Docker", start: "systemctl start docker",
			doctor: map[string]string{"docker": "its rules are there, with a policy of DROP", "firewalld": "does not run", "ufw": "no rules of it"}},
		{name: "Docker and firewalld", start: "systemctl start firewalld docker", setup: true, reload: "systemctl reset-failed docker; systemctl restart docker"},
		{name: "ufw", start: "ufw --force enable", reload: "ufw reload",
			doctor: map[string]string{"ufw": "its rules are there, with a policy of DROP"}},
		{name: "nftables", start: nftConf("policy accept"), reload: "systemctl reload nftables"},
		{name: "iptables-legacy", start: "update-alternatives --set iptables /usr/sbin/iptables-legacy; iptables -P FORWARD DROP; " +
			"iptables -A FORWARD -s 198.51.100.0/24 -j ACCEPT; iptables -t nat -A POSTROUTING -s 198.51.100.0/24 -j MASQUERADE; " +
			"iptables -t raw -L > /dev/null; iptables -t mangle -L > /dev/null",
			doctor: map[string]string{"iptables backend": "legacy"}},
	}
}

// nftConf writes and loads an nftables.conf, as Debian's own begins, whose forward chain has policy or rules.
func nftConf(forward string) string {
	return `cat > /etc/nftables.conf << 'CONF'
#!/usr/sbin/nft -f
flush ruleset
table inet site {
	chain input {
		type filter hook input priority filter; policy drop;
		ct state established,related accept
		iif lo accept
		meta l4proto ipv6-icmp accept
		tcp dport 22 accept
	}
	chain forward {
		type filter hook forward priority filter; ` + forward + `
	}
}
CONF
systemctl start nftables`
}

// outside is a server on the client, which a box reaches by the host's external interface.
const outside = testhost.ClientAddr + ":6001"

// reaches wants the page of the box from the client, the host and the box itself, and the box to reach the client.
func (h host) reaches() {
	h.t.Helper()
	h.page()
	for _, url := range []string{"http://127.0.0.1/", webURL} {
		if r := h.run("curl", "-sS", "-m", "5", url); !strings.Contains(r.Stdout, "nginx in a box") {
			h.t.Errorf("the host asked for %s: %v\nwant the page of the box", url, r)
		}
	}
	if r := h.run("boxrun", "exec", "web", "--", "curl", "-sS", "-m", "5", webURL); !strings.Contains(r.Stdout, "nginx in a box") {
		h.t.Errorf("the box asked for its own page: %v\nwant it", r)
	}
	if got := h.outcome(); got != "out" {
		h.t.Errorf("the box connected to the client: %q, want out", got)
	}
}

// reachesBySix wants the same by IPv6, of a box with both families. What the box and the host know of each other's MACs is
// forgotten first.
func (h host) reachesBySix() {
	h.t.Helper()
	h.sh("ip -6 neigh flush dev sbr0; boxrun exec web -- ip -6 neigh flush dev eth0")
	const url = "http://[2001:db8:7::1]/"
	if got := h.client("curl", "-gsS", "-m", "5", url); !strings.Contains(got, "nginx in a box") {
		h.t.Errorf("the client got %q by IPv6, want the page of the box", got)
	}
	for _, argv := range [][]string{{"curl", "-gsS", "-m", "5", url}, {"boxrun", "exec", "web", "--", "curl", "-gsS", "-m", "5", url}} {
		if r := h.run(argv...); !strings.Contains(r.Stdout, "nginx in a box") {
			h.t.Errorf("%s: %v\nwant the page of the box", strings.Join(argv, " "), r)
		}
	}
	h.must("boxrun", "exec", "web", "--", "nc", "-z", "-w", "2", "2001:db8:7::2", "6001")
}

// outcome says whether the box gets out.
func (h host) outcome() string {
	h.t.Helper()
	ip, port, _ := strings.Cut(outside, ":")
	return strings.TrimSpace(h.must("boxrun", "exec", "web", "--", "sh", "-c", "nc -z -w 2 "+ip+" "+port+" && echo out || echo lost"))
}

// says wants boxrun up to say all of words, and no warning where there are none.
func (h host) says(words []string) {
	h.t.Helper()
	r := h.run("boxrun", "up", "web")
	if r.Code != 0 || !containsAll(r.Stderr, words) || len(words) == 0 && strings.Contains(r.Stderr, "warning") {
		h.t.Errorf("up: %v\nwant exit code 0, and on stderr: %q", r, words)
	}
}

// With every firewall that people have, a box is reached and reaches out, and doctor says so; the firewall is told to reload
// and up mends what that took; and after down all rules of others are as before, byte for byte.
func TestNeighbours(t *testing.T) {
	sideBySide(t)
	for _, f := range firewalls() {
		t.Run(f.name, func(t *testing.T) {
			h := bootHost(t, testhost.NewWithNeighbours)
			h.serve(h.probe, "serve", "client", "tcp/:6001")
			h.answerNames()
			h.six()
			h.sh(`sed -i 's/^\[network\]/&\nsubnet6 = "auto"/' /etc/boxrun/profiles/web.toml`)
			h.sh(f.start)
			if f.setup {
				h.must("boxrun", "host", "setup")
			}
			h.settle(f)
			before := h.dump()
			h.says(f.says)
			h.reaches()
			h.reachesBySix()
			h.diagnosed(f)
			if f.reload != "" {
				h.sh(f.reload)
				h.must("boxrun", "up", "web")
				h.reaches()
				h.reachesBySix()
			}
			h.must("boxrun", "down", "web")
			h.settle(f)
			h.same(before, append(stays(), `^/var/lib/docker `)...) // its number as a mount is another after each start
			h.must("boxrun", "host", "reset")
		})
	}
}

// settle has a firewall write its rules anew, as many keep empty chains of what they once had, or write them in another order.
func (h host) settle(f firewall) {
	h.t.Helper()
	if f.reload != "" {
		h.sh(f.reload)
	}
}

// What an administrator's own chain drops, boxrun may not let pass: up says which rule it is and what to add, and with that
// the box is reached.
func TestNftablesThatDrop(t *testing.T) {
	sideBySide(t)
	for name, forward := range map[string]struct{ rules, blames string }{
		"by policy": {"policy drop;\n\t\tct state established,related accept\n\t\tiifname \"vpn0\" accept", "nft chain inet site forward { policy drop; }"},
		"by a rule": {"policy accept;\n\t\tct state established,related accept\n\t\tiifname \"eth0\" counter reject\n\t\toifname \"eth0\" drop", "nft rule inet site forward oifname \"eth0\" drop"},
	} {
		t.Run(name, func(t *testing.T) {
			h := bootHost(t, testhost.NewWithNeighbours)
			h.serve(h.probe, "serve", "client", "tcp/:6001")
			h.sh(nftConf(forward.rules))
			before := h.dump()
			r := h.run("boxrun", "up", "web")
			if r.Code != 0 || !containsAll(r.Stderr, []string{forward.blames, "hint: add to that chain"}) {
				t.Errorf("up: %v\nwant that %s is blamed, and what to add", r, forward.blames)
			}
			if got := h.outcome(); got != "lost" {
				t.Errorf("behind that rule the box connected to the client: %q, want lost", got)
			}
			h.sh(hinted(r.Stderr, "nft '"))
			h.says(nil)
			h.reaches()
			h.must("boxrun", "down", "web")
			h.sh("systemctl reload nftables")
			h.same(before, stays()...)
		})
	}
}

// hinted gives the command in a hint: from where it begins to the end of the line.
func hinted(stderr, begin string) string {
	i := strings.LastIndex(stderr, begin)
	if i < 0 {
		return "false # no hint"
	}
	line, _, _ := strings.Cut(stderr[i:], "\n")
	return line
}

// A firewall whose INPUT passes what belongs to connections by the uplink alone drops what a box answers to the host itself:
// clients outside are served, and nobody on the host. All who look name the rule, and what is hinted at helps.
func TestAFirewallThatDropsWhatABoxAnswersToTheHost(t *testing.T) {
	h := newHost(t)
	h.sh(quickLooks)
	h.must("boxrun", "up", "web")
	h.sh("iptables -A INPUT -i lo -j ACCEPT; iptables -A INPUT -i eth0 -j ACCEPT; iptables -P INPUT DROP")
	h.page()
	named := "what the box answers to the host itself is dropped by iptables -t filter -P INPUT DROP"
	h.toldByAll(named)
	h.sh(hinted(h.run("boxrun", "up", "--wait-timeout", "1s", "web").Stderr, "iptables -I INPUT"))
	h.must("curl", "-sSf", "-m", "5", "-o", "/dev/null", "http://127.0.0.1/")
	if got := h.must("boxrun", "status", "web"); !strings.Contains(got, "in place") {
		t.Errorf("with the rules of the hint, status says\n%s", got)
	}
	h.page()
}

// firewalld's own setting rejects what others publish; up names it, and what is hinted at helps.
func TestFirewalldWithStrictForwardPorts(t *testing.T) {
	h := bootHost(t, testhost.NewWithNeighbours)
	h.serve(h.probe, "serve", "client", "tcp/:6001")
	h.sh("sed -i s/^StrictForwardPorts=.*/StrictForwardPorts=yes/ /etc/firewalld/firewalld.conf; systemctl start firewalld")
	h.must("boxrun", "host", "setup")
	h.says([]string{"StrictForwardPorts=yes", "hint: set it to no", "--add-forward-port=port=80:proto=tcp:toport=80:toaddr=10.22.0.2"})
	h.sh("firewall-cmd -q --permanent --add-forward-port=port=80:proto=tcp:toport=80:toaddr=10.22.0.2; firewall-cmd -q --reload")
	h.page()
	h.must("boxrun", "restart", "web")
	h.page()
}

// A reload would drop what somebody has set at run time only: the setup refuses, and says what to do.
func TestHostSetupSparesWhatFirewalldHasAtRunTime(t *testing.T) {
	h := bootHost(t, testhost.NewWithNeighbours)
	h.sh("systemctl start firewalld; firewall-cmd -q --add-port=9999/tcp; firewall-cmd -q --zone=dmz --change-interface=lab0")
	before := h.dump()
	h.fails(1, []string{"public", "hint: keep them with", "firewall-cmd --runtime-to-permanent"}, "boxrun", "host", "setup")
	h.same(before)
	h.sh("firewall-cmd -q --remove-port=9999/tcp")
	h.must("boxrun", "host", "setup")
	if got := h.must("firewall-cmd", "--get-zone-of-interface=lab0"); got != "dmz\n" {
		t.Errorf("after host setup lab0 is in the zone %q, want it where it was at run time, in dmz", got)
	}
	h.must("boxrun", "up", "web")
	h.page()
	r := h.run("boxrun", "exec", "web", "--", "nc", "-z", "-w", "2", testhost.HostAddr, "22")
	if r.Code == 0 {
		t.Errorf("the box reached the host's port 22: %v", r)
	}
	h.must("boxrun", "host", "reset", "--force")
	for _, left := range []string{"boxrun", "sbr0"} {
		if got := h.must("nft", "list", "ruleset"); strings.Contains(got, left) {
			t.Errorf("after host reset nft list ruleset has %q:\n%s", left, got)
		}
	}
	if got := h.sh("ls /etc/firewalld/zones /etc/firewalld/policies"); strings.Contains(got, "boxrun") {
		t.Errorf("after host reset /etc/firewalld has\n%s", got)
	}
}

// A rival is a rule of others that cuts off the box web. All verbs that look at the box have to name the rule with words, and
// say what takes it away.
type rival struct {
	name, script, undo string
	words              []string
	six                bool // the rule is for IPv6 alone
	sample             bool // tried on each change of boxrun
}

// ofIptables returns a rival made of a rule in a table and chain of a tool of iptables.
func ofIptables(name, tool, table, rule string, words ...string) rival {
	r := rival{name: name, script: tool + " -t " + table + " -A " + rule, undo: tool + " -t " + table + " -D " + rule}
	r.words = slices.Concat(words, []string{"by " + tool + " -t " + table + " -A ", "remove that rule: " + tool + " -t " + table + " -D "})
	return r
}

// ofNFT returns a rival made of a chain of nftables with a rule, or of its policy. In place of VETH stands the box's veth.
func ofNFT(name, family, chain, rule, words string) rival {
	table := family + " site"
	r := rival{name: name, undo: "nft delete table " + table, words: []string{words}}
	r.script = fmt.Sprintf("veth=$(ip -br link show master sbr0 | cut -d @ -f 1); nft \"add table %[1]s; add chain %[1]s c { type %[2]s; }; add rule %[1]s c %[3]s\"",
		table, strings.ReplaceAll(chain, "VETH", "$veth"), rule)
	return r
}

// rivals are rules of each kind that keep packets from a box, at each place before and beside boxrun's.
func rivals() []rival {
	const untracked, clients, answers = "connections to port 80/tcp are not translated, by ", "what clients send to port 80/tcp is dropped by ", "what the box answers from port 80/tcp is dropped by "
	six := ofIptables("IPv6", "ip6tables", "raw", "PREROUTING -i sbr0 -j DROP", answers)
	six.six = true
	all := []rival{
		ofIptables("notrack of a port", "iptables", "raw", "PREROUTING -p tcp -m tcp --dport 80 -j CT --notrack", untracked),
		ofIptables("a zone", "iptables", "raw", "PREROUTING -i eth0 -j CT --zone 7", untracked),
		ofIptables("notrack of answers", "iptables", "raw", "PREROUTING -i sbr0 -p tcp -m tcp --sport 80 -j CT --notrack", untracked),
		ofIptables("raw", "iptables", "raw", "PREROUTING -p tcp -m tcp --dport 80 -j DROP", clients),
		ofIptables("mangle, in", "iptables", "mangle", "PREROUTING -i eth0 -j DROP", clients),
		ofIptables("mangle, forward", "iptables", "mangle", "FORWARD -o sbr0 -j DROP", clients),
		ofIptables("mangle, out", "iptables", "mangle", "POSTROUTING -o sbr0 -j DROP", clients),
		ofIptables("security", "iptables", "security", "FORWARD -i sbr0 -j DROP", answers),
		{name: "a policy", script: "iptables -t mangle -P FORWARD DROP", undo: "iptables -t mangle -P FORWARD ACCEPT",
			words: []string{clients + "iptables -t mangle -P FORWARD DROP", "remove that rule: iptables -t mangle -P FORWARD ACCEPT"}},
		{name: "the other backend", script: "iptables-legacy -P FORWARD DROP", undo: "iptables-legacy -P FORWARD ACCEPT",
			words: []string{clients + "iptables-legacy -t filter -P FORWARD DROP", "remove that rule: iptables-legacy -t filter -P FORWARD ACCEPT"}},
		ofIptables("notrack in the other backend", "iptables-legacy", "raw", "PREROUTING -i eth0 -j NOTRACK", untracked),
		six,
		ofNFT("nft, first of all", "inet", "filter hook prerouting priority -310", "tcp dport 80 drop", clients+"nft rule inet site c tcp dport 80 drop"),
		ofNFT("nft, notrack", "inet", "filter hook prerouting priority raw", "tcp dport 80 notrack", untracked+"nft rule inet site c tcp dport 80 notrack"),
		ofNFT("nft, before", "ip", "filter hook forward priority -10", "ct status dnat drop", clients+"nft rule ip site c ct status dnat drop"),
		ofNFT("nft, beside", "inet", "filter hook forward priority 300; policy drop", "oifname eth0 accept", clients+"nft chain inet site c { policy drop; }"),
		ofNFT("nft, after", "ip", "filter hook postrouting priority 0", "oifname sbr0 drop", clients+`nft rule ip site c oifname "sbr0" drop`),
		ofNFT("nft, elsewhere", "ip", "nat hook prerouting priority -110", "tcp dport 80 redirect to :81", "what clients send to port 80/tcp goes elsewhere, by nft rule ip site c tcp dport 80 redirect to :81"),
		ofNFT("a device", "netdev", "filter hook ingress device eth0 priority 0", "tcp dport 80 counter drop", clients+"nft rule netdev site c tcp dport 80 counter packets"),
		ofNFT("the veth", "netdev", "filter hook ingress device VETH priority 0", "ip saddr 10.22.0.2 drop", answers+"nft rule netdev site c ip saddr 10.22.0.2 drop"),
		ofNFT("a bridge", "bridge", "filter hook output priority 0; policy drop", "ether type arp accept", clients+"nft chain bridge site c { policy drop; }"),
		ofNFT("a port of a bridge", "bridge", "filter hook prerouting priority 0", "ip saddr 10.22.0.2 drop", answers+"nft rule bridge site c ip saddr 10.22.0.2 drop"),
		ofNFT("ARP", "arp", "filter hook input priority 0; policy drop", "iifname eth9 accept", clients+"nft chain arp site c { policy drop; }"),
	}
	for _, i := range []int{0, 11, 13, 17, 18} {
		all[i].sample = true
	}
	return all
}

// What cuts a box off by a rule of others is named by all verbs that look at the box, with the same words, and is not boxrun's
// to mend.
func TestRulesOfOthersInTheWay(t *testing.T) {
	h := newHost(t)
	h.six()
	h.sh(`sed -i 's/^\[network\]/&\nsubnet6 = "auto"/' /etc/boxrun/profiles/web.toml; ` + quickLooks)
	h.must("boxrun", "up", "web")
	h.page()
	for _, r := range rivals() {
		t.Run(r.name, func(t *testing.T) {
			if !r.sample && !soak() {
				t.Skip("at full length only: make soak")
			}
			h := h.in(t)
			h.sh(r.script)
			h.sh("ip neigh flush dev sbr0; boxrun exec web -- ip neigh flush dev eth0")
			if got := h.clientCode(r.six); got != "000" {
				t.Errorf("the client got %s", got)
			}
			h.agree("web")
			h.toldByAll(r.words...)
			for _, argv := range [][]string{{"boxrun", "ps"}, {"boxrun", "trace", "--probe", "web", "80"}} {
				if got := h.run(argv...); !containsAll(got.Stdout+got.Stderr, r.words) {
					t.Errorf("%s: %v\nwant %q", argv, got, r.words)
				}
			}
			h.sh(r.undo)
			if got := h.must("boxrun", "status", "web"); !strings.Contains(got, "in place") {
				t.Errorf("without the rule, status says\n%s", got)
			}
			h.page()
		})
	}
	h.harmless()
}

// harmless wants nothing said of rules of others beside which the box is served.
func (h host) harmless() {
	h.t.Helper()
	for _, r := range []rival{
		ofNFT("another port", "netdev", "filter hook ingress device eth0 priority 0", "tcp dport 81 drop", ""),
		ofNFT("the port in the box, before its translation", "inet", "filter hook prerouting priority 0", "ip daddr 192.0.2.1 tcp dport 80 drop", ""),
		ofNFT("the host alone", "inet", "filter hook input priority 0; policy drop", "ct state established,related accept", ""),
		ofIptables("one direction of a zone", "iptables", "raw", "PREROUTING -i eth0 -j CT --zone-orig 7"),
		ofIptables("a mark", "iptables", "mangle", "FORWARD -j MARK --set-xmark 0x1/0x1"),
	} {
		h.sh(r.script)
		h.page()
		h.says(nil)
		if got := h.must("boxrun", "status", "web"); !strings.Contains(got, "in place") {
			h.t.Errorf("beside %s, status says\n%s", r.name, got)
		}
		h.sh(r.undo)
	}
}

// clientCode returns what the client gets of the box, by IPv6 if asked for: an HTTP code, "000" for no answer.
func (h host) clientCode(six bool) string {
	h.t.Helper()
	url := webURL
	if six {
		url = "http://[2001:db8:7::1]/"
	}
	return strings.TrimSpace(h.client("bash", "-c", "curl -gs -m 2 -o /dev/null -w '%{http_code}' "+url+" || true"))
}
