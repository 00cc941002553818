package e2e

import (
	"strings"
	"testing"
)

// dockerRules are what a Docker 28 with one container that publishes port 8888 leaves in the tables, and an admin's own chain.
const dockerRules = `*nat
:PREROUTING ACCEPT
:INPUT ACCEPT
:OUTPUT ACCEPT
:POSTROUTING ACCEPT
:DOCKER -
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8888 -j DNAT --to-destination 172.17.0.2:80
COMMIT
*filter
:INPUT ACCEPT
:FORWARD DROP
:OUTPUT ACCEPT
:DOCKER -
:DOCKER-BRIDGE -
:DOCKER-CT -
:DOCKER-FORWARD -
:DOCKER-USER -
:SITE -
-A INPUT -j SITE
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-FORWARD
-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER ! -i docker0 -o docker0 -j DROP
-A DOCKER-BRIDGE -o docker0 -j DOCKER
-A DOCKER-CT -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A DOCKER-FORWARD -j DOCKER-CT
-A DOCKER-FORWARD -j DOCKER-BRIDGE
-A DOCKER-FORWARD -i docker0 -j ACCEPT
-A SITE -s 198.51.100.0/24 -m comment --comment "the \"old\" office" -j DROP
COMMIT
`

// strangers gives the rules that are not boxrun's, as iptables-save prints them, counters aside.
func strangers(h host) string {
	h.t.Helper()
	return withoutEmptyTables(h.sh(`for save in iptables-nft-save iptables-legacy-save ip6tables-nft-save; do
		$save | grep -v -e BOXRUN -e boxrun: -e '^#' | sed 's/\[[0-9]*:[0-9]*\]//'
	done`))
}

func TestRulesOfOthersStayByteForByte(t *testing.T) {
	sideBySide(t)
	for _, backend := range []string{"nft", "legacy"} {
		t.Run(backend, func(t *testing.T) {
			h := newHost(t)
			h.sh("update-alternatives --set iptables /usr/sbin/iptables-" + backend +
				"; update-alternatives --set ip6tables /usr/sbin/ip6tables-" + backend)
			h.sh("iptables-restore << 'RULES'\n" + dockerRules + "RULES")
			// Docker forwards and has the tables boxrun needs.
			h.sh("sysctl -qw net.ipv4.ip_forward=1; ip6tables -P FORWARD DROP; iptables -t raw -L > /dev/null; iptables -t mangle -L > /dev/null")
			before, rules := h.dump(), strangers(h)
			h.must("boxrun", "up", "web")
			h.page()
			if got := strangers(h); got != rules {
				t.Errorf("while the box is up, the rules of others are\n%s\nwant\n%s", got, rules)
			}
			h.must("boxrun", "down", "web")
			h.same(before, stays()...)
		})
	}
}

// withoutEmptyTables drops tables of nothing but policies ACCEPT: boxrun makes tables that were not there, others' rules are
// not in them.
func withoutEmptyTables(save string) string {
	var kept strings.Builder
	for _, table := range strings.SplitAfter(save, "COMMIT\n") {
		if strings.Contains(table, "\n-A ") || strings.Contains(table, " DROP ") {
			kept.WriteString(table)
		}
	}
	return kept.String()
}

// A native nftables rule set is no business of boxrun's either.
func TestNftablesOfOthersStay(t *testing.T) {
	h := newHost(t)
	h.sh(`nft -f - << 'RULES'
table inet site {
	chain input {
		type filter hook input priority filter; policy accept;
		ip saddr 198.51.100.0/24 drop
	}
	set office { type ipv4_addr; elements = { 198.51.100.7 } }
}
RULES`)
	before := h.dump()
	h.must("boxrun", "up", "web")
	h.page()
	if got, want := h.must("nft", "list", "table", "inet", "site"), before.Section("nft"); !strings.Contains(want, strings.TrimSpace(got)) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	h.must("boxrun", "down", "web")
	h.same(before, stays()...)
}

// Apptainer's own default network has the bridge and the subnet of boxrun's. Whoever starts first, no two boxes get one
// address; a lease that is lost, or was given to somebody else, is seen.
func TestApptainersOwnDefaultNetwork(t *testing.T) {
	h := newHost(t)
	before := h.dump()
	const plain = "apptainer instance start --boot --net --writable-tmpfs --bind /sys/fs/cgroup /srv/web "
	addressOf := func(instance string) string {
		return strings.TrimSpace(h.sh("apptainer exec instance://" + instance + " ip -4 -br addr show eth0 | tr / ' ' | tr -s ' ' | cut -d ' ' -f 3"))
	}
	h.must("boxrun", "up", "web")
	h.sh(plain + "first")
	h.profile("later", "image = \"/srv/web\"\nnetwork.ports = [\"8081:80\"]\n")
	h.must("boxrun", "up", "later")
	h.sh(plain + "second")
	at := h.addresses()
	seen := map[string]string{}
	for name, address := range map[string]string{"web": at["web"], "later": at["later"], "first": addressOf("first"), "second": addressOf("second")} {
		if other := seen[address]; other != "" || address == "" {
			t.Errorf("%s and %s have the address %q", name, other, address)
		}
		seen[address] = name
	}
	h.page()
	lease := "/var/lib/cni/networks/bridge/" + at["web"]
	h.sh("rm " + lease)
	if got := h.must("boxrun", "status", "web"); !strings.Contains(got, "the lease "+lease+" is missing") {
		t.Errorf("status says\n%s\nwant the lease", got)
	}
	if r := h.run("boxrun", "repair"); r.Code != 0 || !strings.Contains(r.Stderr, "mended: web: the lease") {
		t.Errorf("repair: %v", r)
	}
	h.sh("printf '4000000\\r\\neth0' > " + lease)
	if r := h.run("boxrun", "doctor", "web"); r.Code != 1 || !strings.Contains(r.Stdout, "is leased to 4000000, too") {
		t.Errorf("doctor: %v, want the other owner", r)
	}
	h.sh("rm " + lease + "; boxrun repair")

	script := h.must("boxrun", "down", "later", "--dry-run")
	if !strings.Contains(script, "rm -f /var/lib/cni/networks/bridge/"+at["later"]+"\n") {
		t.Errorf("down --dry-run says\n%s\nwant the lease removed", script)
	}
	h.must("boxrun", "down", "--all")
	if got := h.sh("grep -rl boxrun /var/lib/cni/networks || true"); got != "" {
		t.Errorf("after down there are the leases %s", got)
	}
	h.sh(`apptainer instance stop first; apptainer instance stop second; ip link del sbr0
		rm -rf /var/lib/cni/networks /etc/boxrun/profiles/later.toml; nft flush ruleset`)
	h.must("boxrun", "up", "web")
	h.sh("kill -9 $(boxrun ps --json | jq '.[0].pid'); timeout 10 sh -c 'while ip link show master sbr0 | grep -q .; do sleep 0.1; done'; rm -r /run/boxrun") // as by a loss of power, but for the boot
	h.must("boxrun", "host", "reset")
	h.same(before, append(stays(), `^/root/.apptainer/instances/`)...)
}
