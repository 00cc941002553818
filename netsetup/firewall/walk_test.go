package firewall

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"boxrun/netsetup/nstest"
	"boxrun/netsetup/rules"
)

func TestMain(m *testing.M) { os.Exit(nstest.Main(m)) }

// outcome is an Outcome as text: what happened, by which rule, and what may have happened.
func outcome(o Outcome) string {
	text := "passes"
	switch {
	case o.Dropped:
		text = "dropped by " + o.Rule
	case o.Rule != "":
		text = "to " + o.To + " by " + o.Rule
	}
	for _, rule := range o.Unsure {
		text += "\nperhaps " + rule
	}
	return text
}

// parsed reads what iptables-save of the backend in use printed.
func parsed(t *testing.T, save string) rules.Tables {
	t.Helper()
	tables, err := rules.Parse("iptables", save)
	if err != nil {
		t.Fatal(err)
	}
	return tables
}

// client is the first packet of one outside to a published port.
func client() Packet {
	return Packet{In: "eth0", Out: "sbr0", Src: netip.MustParseAddr("203.0.113.1"), Dst: netip.MustParseAddr("192.0.2.1"),
		Proto: "tcp", DPort: 8080, ToHost: true}
}

// dockersRules is what a Docker 28 leaves in filter, with boxrun's own place to be put before it.
const dockersRules = `*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [12:720]
:OUTPUT ACCEPT [0:0]
:BOXRUN-FWD - [0:0]
:DOCKER-FORWARD - [0:0]
:DOCKER-USER - [0:0]
%s[3:180] -A FORWARD -j DOCKER-USER
[3:180] -A FORWARD -j DOCKER-FORWARD
[0:0] -A BOXRUN-FWD -d 10.22.0.2/32 -p tcp -m tcp --dport 80 -m conntrack --ctstate DNAT -m comment --comment boxrun:web -j ACCEPT
[0:0] -A DOCKER-FORWARD -i docker0 -j ACCEPT
COMMIT
`

func TestWalk(t *testing.T) {
	const table = "*%s\n:%s %s [0:0]\n%sCOMMIT\n"
	forward := func(rules string) string { return fmt.Sprintf(table, "filter", "FORWARD", "ACCEPT", rules) }
	for _, test := range []struct{ name, save, want string }{
		{"no rules", "", "passes"},
		{"Docker's policy", fmt.Sprintf(dockersRules, ""), "dropped by iptables -t filter -P FORWARD DROP"},
		{"boxrun before Docker", fmt.Sprintf(dockersRules, "[0:0] -A FORWARD -m comment --comment boxrun:host -j BOXRUN-FWD\n"), "passes"},
		{"another device", forward("-A FORWARD -i eth1 -j DROP\n"), "passes"},
		{"all devices but one", forward("-A FORWARD ! -i eth1 -j REJECT --reject-with icmp-port-unreachable\n"),
			"dropped by iptables -t filter -A FORWARD ! -i eth1 -j REJECT --reject-with icmp-port-unreachable"},
		{"devices of a kind", forward("-A FORWARD -o sbr+ -j DROP\n"), "dropped by iptables -t filter -A FORWARD -o sbr+ -j DROP"},
		{"another source", forward("-A FORWARD -s 198.51.100.0/24 -j DROP\n"), "passes"},
		{"all but a source", forward("-A FORWARD ! -s 198.51.100.0/24 -j DROP\n"),
			"dropped by iptables -t filter -A FORWARD ! -s 198.51.100.0/24 -j DROP"},
		{"the port on the host counts before the translation", fmt.Sprintf(table, "raw", "PREROUTING", "ACCEPT",
			"-A PREROUTING -p tcp -m tcp --dport 8080 -j DROP\n"), "dropped by iptables -t raw -A PREROUTING -p tcp --dport 8080 -j DROP"},
		{"the port in the box counts after it", forward("-A FORWARD -p tcp -m tcp --dport 8080 -j DROP\n"), "passes"},
		{"another protocol", forward("-A FORWARD -p udp -m udp --dport 80 -j DROP\n"), "passes"},
		{"several ports", forward("-A FORWARD -p tcp -m multiport --dports 22,79:81 -j DROP\n"),
			"dropped by iptables -t filter -A FORWARD -p tcp -m multiport --dports 22,79:81 -j DROP"},
		{"only what is established", forward("-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n-A FORWARD -j DROP\n"),
			"dropped by iptables -t filter -A FORWARD -j DROP"},
		{"what was translated", forward("-A FORWARD -m conntrack --ctstate DNAT -j ACCEPT\n-A FORWARD -j DROP\n"), "passes"},
		{"a log goes on", forward("-A FORWARD -j LOG --log-prefix \"a -j ACCEPT \"\n-A FORWARD -j DROP\n"), "dropped by iptables -t filter -A FORWARD -j DROP"},
		{"a return from a chain", forward("-A FORWARD -j X\n-A FORWARD -j DROP\n-A X -i eth0 -j RETURN\n-A X -j ACCEPT\n"),
			"dropped by iptables -t filter -A FORWARD -j DROP"},
		{"a chain that is not come back from", forward("-A FORWARD -g X\n-A FORWARD -j DROP\n-A X -i eth1 -j DROP\n"), "passes"},
		{"a set of addresses", forward("-A FORWARD -m set --match-set bad src -j DROP\n"),
			"passes\nperhaps iptables -t filter -A FORWARD -m set --match-set bad src -j DROP"},
		{"a set that may have let it pass", forward("-A FORWARD -m set --match-set good src -j ACCEPT\n-A FORWARD -j DROP\n"),
			"passes\nperhaps iptables -t filter -A FORWARD -j DROP"},
		{"a chain behind a set", forward("-A FORWARD -m set --match-set bad src -j X\n-A X -j DROP\n"),
			"passes\nperhaps iptables -t filter -A X -j DROP"},
		{"the mark nobody sets", forward("-A FORWARD -m mark --mark 0x4000/0x4000 -j DROP\n"), "passes"},
		{"a SYN", forward("-A FORWARD -p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -m conntrack --ctstate NEW -j DROP\n"), "passes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := State{tables: parsed(t, test.save)}
			got := outcome(f.Forwarded(client(), netip.MustParseAddrPort("10.22.0.2:80")))
			if got != test.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, test.want)
			}
		})
	}
}

// The kernel obeys both backends, so a rule of the one that nobody looks at counts, and is named by the program that has it.
func TestWalkOfBothBackends(t *testing.T) {
	nstest.WithBackend(t, "nft", nstest.SideBySide, func(t *testing.T) {
		if _, err := exec.LookPath("iptables-legacy"); err != nil {
			nstest.CannotRun(t, "no iptables-legacy here: %v", err)
		}
		nstest.Shell(t, "iptables -A FORWARD -m comment --comment boxrun:host -j ACCEPT; iptables-legacy -A FORWARD -o sbr0 -j DROP")
		f, err := Read()
		if err != nil {
			t.Fatal(err)
		}
		got := outcome(f.Forwarded(client(), netip.MustParseAddrPort("10.22.0.2:80")))
		if want := "dropped by iptables-legacy -t filter -A FORWARD -o sbr0 -j DROP"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if got, want := f.Mixed(), "1 of others in the legacy backend"; got != want {
			t.Errorf("mixed: got %q, want %q", got, want)
		}
		nstest.Shell(t, "iptables-legacy -F")
		if f, err = Read(); err != nil || f.Mixed() != "" {
			t.Errorf("without them: got %q, %v, want none", f.Mixed(), err)
		}
	})
}

func TestTranslation(t *testing.T) {
	const jump = "-A PREROUTING ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -m comment --comment boxrun:host -j BOXRUN-DNAT\n"
	const foreign = "-A PREROUTING -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.22.0.99:80\n"
	const ours = "-A BOXRUN-DNAT -m comment --comment boxrun:web -j BOXRUN-DN-web\n" +
		"-A BOXRUN-DN-web -p tcp -m tcp --dport 8080 -m comment --comment boxrun:web -j DNAT --to-destination 10.22.0.2:80\n"
	const ownRule = "iptables -t nat -A BOXRUN-DN-web -p tcp --dport 8080 -m comment --comment boxrun:web -j DNAT --to-destination 10.22.0.2:80"
	for _, test := range []struct{ name, rules, want string }{
		{"none", "", "passes"},
		{"ours", jump + ours, "to 10.22.0.2:80 by " + ownRule},
		{"ours first", jump + foreign + ours, "to 10.22.0.2:80 by " + ownRule},
		{"another one first", foreign + jump + ours, "to 10.22.0.99:80 by iptables -t nat " + strings.TrimSpace(strings.Replace(foreign, "-m tcp ", "", 1))},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := State{tables: parsed(t, "*nat\n:PREROUTING ACCEPT [0:0]\n:BOXRUN-DNAT - [0:0]\n"+test.rules+"COMMIT\n")}
			o := f.Translation("prerouting", client())
			if got := outcome(o); got != test.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, test.want)
			}
			if got, want := rules.Ours(o.Rule), strings.Contains(test.want, "boxrun:web"); got != want {
				t.Errorf("boxrun's own: got %v, want %v", got, want)
			}
			wanted := "passes"
			if strings.Contains(test.rules, foreign) {
				wanted = "to 10.22.0.99:80 by iptables -t nat " + strings.TrimSpace(strings.Replace(foreign, "-m tcp ", "", 1))
			}
			if got := outcome(f.Rivals().Others().Translation("prerouting", client())); got != wanted {
				t.Errorf("by others alone:\ngot  %s\nwant %s", got, wanted)
			}
		})
	}
}

// The kernel itself says whether what the walk says is so: each rule set is loaded, and read as doctor reads it.
func TestWalkOfNative(t *testing.T) {
	if !nstest.InNamespace(t) {
		return
	}
	const base = "table inet site {\n%s\nchain forward {\ntype filter hook forward priority 10; policy %s;\n%s\n}\n}\n"
	for _, test := range []struct{ name, policy, rules, more, want string }{
		{"nothing", "accept", "", "", "passes"},
		{"a policy", "drop", "", "", "dropped by nft chain inet site forward { policy drop; }"},
		{"a rule", "accept", `iifname "eth0" tcp dport 80 drop`, "", "dropped by nft rule inet site forward handle N"},
		{"another port", "accept", `tcp dport { 22, 443-445 } drop`, "", "passes"},
		{"another device", "accept", `iifname != "eth0" drop`, "", "passes"},
		{"what was translated passes", "drop", `ct status dnat accept`, "", "passes"},
		{"a source", "drop", `ip saddr { 203.0.113.0/24, 198.51.100.7 } accept`, "", "passes"},
		{"a named set", "drop", `ip saddr @office accept`, "set office { type ipv4_addr; elements = { 203.0.113.1 } }", "passes"},
		{"established alone", "drop", `ct state established,related accept`, "", "dropped by nft chain inet site forward { policy drop; }"},
		{"a map of verdicts", "drop", `ct state vmap { established : accept, new : jump other }`, "chain other { oifname \"sbr*\" accept; }", "passes"},
		{"a map of verdicts by several keys", "accept", `ip daddr . meta l4proto . th dport vmap @ports`, // as kube-proxy's
			"chain other { numgen random mod 1 vmap { 0 : goto last }; }; chain last { drop; }\n" +
				"map ports { type ipv4_addr . inet_proto . inet_service : verdict; elements = { 10.22.0.2 . tcp . 80 : goto other }; }",
			"dropped by nft rule inet site last handle N"},
		{"a map with other keys", "accept", `meta l4proto . th dport vmap { tcp . 81 : drop, udp . 80 : drop }`, "", "passes"},
		{"a chain", "accept", `jump other`, "chain other { meta l4proto udp return; reject; }", "dropped by nft rule inet site other handle N"},
		{"what is not known", "accept", `meta skuid 5 drop`, "", "passes\nperhaps nft rule inet site forward handle N"},
		{"IPv6", "accept", `ip6 daddr ::/0 drop`, "", "passes"},
		{"what nft has no JSON for", "accept", "jump { udp dport 53 accept; }; tcp dport 80 drop", "", "dropped by nft rule inet site forward handle N"},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "rules")
			if err := os.WriteFile(file, []byte("flush ruleset\n"+fmt.Sprintf(base, test.more, test.policy, test.rules)), 0o600); err != nil {
				t.Fatal(err)
			}
			nstest.Run(t, "nft", "-f", file)
			f, err := Read()
			if err != nil {
				t.Fatal(err)
			}
			got := outcome(f.Forwarded(client(), netip.MustParseAddrPort("10.22.0.2:80")))
			if got = withoutHandle(got); got != test.want {
				t.Errorf("got:\n%s\nwant:\n%s\nof\n%s", got, test.want, nstest.Run(t, "nft", "list ruleset"))
			}
		})
	}
}

// withoutHandle takes the kernel's number out of a rule's name.
func withoutHandle(text string) string {
	before, after, ok := strings.Cut(text, " handle ")
	if !ok {
		return text
	}
	return before + " handle N" + strings.TrimLeft(after, "0123456789")
}

// The first translation counts. Which that is the kernel decides by priority, and at one priority by what was made last.
func TestTranslationByPriority(t *testing.T) {
	const own = "to 10.22.0.2:80 by iptables -t nat -A PREROUTING -p tcp --dport 8080 -m comment --comment boxrun:web -j DNAT --to-destination 10.22.0.2:80"
	const native = "nft rule inet site pre handle N"
	const rule = "tcp dport 8080 dnat ip to 192.0.2.2:81"
	for _, test := range []struct {
		priority   int
		rule, want string
	}{
		{-110, rule, "to  by " + native},
		{-100, rule, own + "\nor " + native},
		{-90, rule, own},
		{-110, "dnat ip to tcp dport map { 80 : 192.0.2.2, 8888 : 192.0.2.3 }", own}, // of any other port it is no rule
	} {
		t.Run(fmt.Sprint(test.priority, test.rule), func(t *testing.T) {
			nstest.WithBackend(t, "nft", nstest.SideBySide, func(t *testing.T) {
				nstest.Shell(t, "nft flush ruleset; iptables -t nat -A PREROUTING -p tcp --dport 8080 -m comment --comment boxrun:web -j DNAT --to-destination 10.22.0.2:80; "+
					fmt.Sprintf("nft 'add table inet site; add chain inet site pre { type nat hook prerouting priority %d; }; "+
						"add rule inet site pre %s'", test.priority, test.rule))
				f, err := Read()
				if err != nil {
					t.Fatal(err)
				}
				o := f.Translation("prerouting", client())
				got := outcome(o)
				for _, rival := range o.Rivals {
					got += "\nor " + rival
				}
				if got = withoutHandle(got); got != test.want {
					t.Errorf("got:\n%s\nwant:\n%s", got, test.want)
				}
			})
		})
	}
}

// Rules before connection tracking, as the kernel takes them: which keep a published port from being translated.
func TestUntracked(t *testing.T) {
	answer := Packet{In: "sbr0", Src: netip.MustParseAddr("10.22.0.2"), Dst: netip.MustParseAddr("203.0.113.1"), Proto: "tcp",
		SPort: 80, DPort: 40000, Reply: true}
	const native = "nft 'add table inet site; add chain inet site pre { type filter hook prerouting priority %s; }; add rule inet site pre %s'"
	for _, test := range []struct{ name, script, want string }{
		{"nothing", "true", ""},
		{"the port", "iptables -t raw -A PREROUTING -p tcp --dport 8080 -j CT --notrack",
			"iptables -t raw -A PREROUTING -p tcp --dport 8080 -j CT --notrack"},
		{"in a chain", "iptables -t raw -N FAST; iptables -t raw -A PREROUTING -i eth0 -j FAST; iptables -t raw -A FAST -p tcp -j CT --notrack",
			"iptables -t raw -A FAST -p tcp -j CT --notrack"},
		{"another port", "iptables -t raw -A PREROUTING -p tcp --dport 53 -j CT --notrack", ""},
		{"a zone of the device", "iptables -t raw -A PREROUTING -i eth0 -j CT --zone 5", "iptables -t raw -A PREROUTING -i eth0 -j CT --zone 5"},
		{"a zone of the bridge", "iptables -t raw -A PREROUTING -i sbr0 -j CT --zone 5", "iptables -t raw -A PREROUTING -i sbr0 -j CT --zone 5"},
		{"a zone of everything", "iptables -t raw -A PREROUTING -j CT --zone 5", ""},
		{"a zone of one direction", "iptables -t raw -A PREROUTING -i eth0 -j CT --zone-orig 5", ""},
		{"a helper", "iptables -t raw -A PREROUTING -p tcp --dport 8080 -j CT --ctevents new", ""},
		{"the answer", "iptables -t raw -A PREROUTING -p tcp --sport 80 -j CT --notrack",
			"iptables -t raw -A PREROUTING -p tcp --sport 80 -j CT --notrack"},
		{"nftables", fmt.Sprintf(native, "-300", "tcp dport 8080 notrack"), "nft rule inet site pre handle N"},
		{"nftables, a zone", fmt.Sprintf(native, "-300", "iifname eth0 ct zone set 5"), "nft rule inet site pre handle N"},
		{"nftables, too late", fmt.Sprintf(native, "-100", "tcp dport 8080 notrack"), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			nstest.WithBackend(t, "nft", nstest.SideBySide, func(t *testing.T) {
				nstest.Shell(t, test.script)
				f, err := Read()
				if err != nil {
					t.Fatal(err)
				}
				if got := withoutHandle(f.Untracked("prerouting", client(), answer)); got != test.want {
					t.Errorf("got %q, want %q", got, test.want)
				}
			})
		})
	}
}

// rivals returns the rules of others beside a save of iptables, with native rules; "" for none.
func rivals(t *testing.T, save, native string) State {
	t.Helper()
	if native != "" {
		nstest.Run(t, "nft", native)
	}
	f, err := Beside(rules.Memory{}, parsed(t, save))
	if err != nil {
		t.Fatal(err)
	}
	return f.Rivals()
}

// What the host and a box send each other meets other chains than what is forwarded, and boxrun's rules are not there.
func TestOwn(t *testing.T) {
	const shut = "*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n-A INPUT -i lo -j ACCEPT\n-A INPUT -i eth0 -m conntrack --ctstate ESTABLISHED -j ACCEPT\n%sCOMMIT\n"
	const native = "table inet site { chain c { type filter hook output priority 0; oifname sbr0 ct state new drop; }; }"
	box, here := netip.MustParseAddr("10.22.0.2"), netip.MustParseAddr("10.22.0.1")
	asks := Packet{Out: "sbr0", Src: here, Dst: box, Proto: "tcp", SPort: 40000, DPort: 80}
	answers := Packet{In: "sbr0", Src: box, Dst: here, Proto: "tcp", SPort: 80, DPort: 40000, Reply: true, ToHost: true}
	for _, test := range []struct{ name, save, native, asks, answers string }{
		{"a policy", fmt.Sprintf(shut, ""), "", "passes", "dropped by iptables -t filter -P INPUT DROP"},
		{"let pass", fmt.Sprintf(shut, "-A INPUT -i sbr0 -m conntrack --ctstate ESTABLISHED -j ACCEPT\n"), "", "passes", "passes"},
		{"native", "", native, "dropped by nft rule inet site c handle N", "passes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			nstest.WithBackend(t, "nft", nstest.SideBySide, func(t *testing.T) {
				f := rivals(t, test.save, test.native)
				for packet, want := range map[Packet]string{asks: test.asks, answers: test.answers} {
					if got := withoutHandle(outcome(f.Own(packet))); got != want {
						t.Errorf("from %s: got %q, want %q", packet.Src, got, want)
					}
				}
			})
		})
	}
}

// What decides nothing while boxrun's rules are in place is no rival: boxrun's own rules, and what comes after them.
func TestRivals(t *testing.T) {
	const own = "*filter\n:FORWARD DROP [0:0]\n:BOXRUN-FWD - [0:0]\n-A FORWARD -m comment --comment boxrun:host -j BOXRUN-FWD\n-A FORWARD -j DROP\n" +
		"-A BOXRUN-FWD -j ACCEPT\nCOMMIT\n*mangle\n:FORWARD ACCEPT [0:0]\n:BOXRUN-MSS - [0:0]\n-A FORWARD -j BOXRUN-MSS\nCOMMIT\n"
	const late = "table inet site { chain c { type filter hook prerouting priority 0; ip daddr %s tcp dport %d drop; }; }"
	for _, test := range []struct{ name, save, native, want string }{
		{"boxrun alone, with others after", own, "", "none: passes"},
		{"another's rule where boxrun has none first", own + "*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -i eth0 -j DROP\nCOMMIT\n", "",
			"some: dropped by iptables -t raw -A PREROUTING -i eth0 -j DROP"},
		{"a policy", "*security\n:FORWARD DROP [0:0]\nCOMMIT\n", "", "some: dropped by iptables -t security -P FORWARD DROP"},
		{"after the translation, of the port in the box", own, fmt.Sprintf(late, "10.22.0.2", 80), "some: dropped by nft rule inet site c handle N"},
		{"after the translation, of the host's port", own, fmt.Sprintf(late, "192.0.2.1", 8080), "some: passes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			nstest.WithBackend(t, "nft", nstest.SideBySide, func(t *testing.T) {
				f := rivals(t, test.save, test.native)
				got := map[bool]string{true: "none: ", false: "some: "}[f.None()] +
					withoutHandle(outcome(f.Forwarded(client(), netip.MustParseAddrPort("10.22.0.2:80"))))
				if got != test.want {
					t.Errorf("got %q, want %q", got, test.want)
				}
			})
		})
	}
}
