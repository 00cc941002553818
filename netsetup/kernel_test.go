package netsetup

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"boxrun/netsetup/nstest"
	"boxrun/netsetup/rules"
)

func TestUpAndDownNFT(t *testing.T)    { onBackend(t, "nft", testUpAndDown) }
func TestUpAndDownLegacy(t *testing.T) { onBackend(t, "legacy", testUpAndDown) }

func testUpAndDown(t *testing.T, h *testHost) {
	before := dumpHost(t)
	h.up()
	if got := h.drift(); got != "" {
		t.Errorf("right after up, drifted:\n%s", got)
	}
	up := dumpHost(t)
	started := countPrograms(t, h)
	h.apply()
	if got, want := started(), ""; got != want {
		t.Errorf("a second up started:\n%s\nwant none that writes", got)
	}
	sameHost(t, "after a second up", dumpHost(t), up)
	h.down()
	sameHost(t, "after down", dumpHost(t), before)
	h.down()
	sameHost(t, "after a second down", dumpHost(t), before)
}

// countPrograms puts scripts before iptables' tools that note their use, and gives a function that tells which were
// started but to read.
func countPrograms(t *testing.T, h *testHost) func() string {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	for _, tool := range []string{"iptables", "iptables-save", "iptables-restore", "modprobe", "sysctl", "ip", "ethtool"} {
		program, err := exec.LookPath(tool)
		if err != nil {
			continue
		}
		script := fmt.Sprintf("#!/bin/sh\necho %s \"$@\" >>%s\nexec %s \"$@\"\n", tool, log, program)
		if err := os.WriteFile(filepath.Join(dir, tool), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	h.k.Reread()
	return func() string {
		text, err := os.ReadFile(log)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		return strings.ReplaceAll(string(text), "iptables-save\n", "")
	}
}

func TestSettle(t *testing.T) { onBackend(t, "nft", testSettle) }

func testSettle(t *testing.T, h *testHost) {
	h.up()
	host := h.plans[0]
	got := strings.Join(host.Settle(), "\n")
	want := `sysctl net.ipv4.ip_forward stays 1 (it was 0)
sysctl net.ipv4.conf.ext0.rp_filter stays 2 (it was 1)`
	if got != want {
		t.Errorf("settled:\ngot:\n%s\nwant:\n%s", got, want)
	}
	h.down()
	if got, want := nstest.Shell(t, "sysctl -n net.ipv4.ip_forward net.ipv4.conf.ext0.rp_filter"), "1\n2"; got != want {
		t.Errorf("after down, ip_forward and rp_filter: got %q, want %q", got, want)
	}
	if got := strings.Join(stored(t, *host).Stays, "\n"); got != want {
		t.Errorf("the stored plan says:\ngot:\n%s\nwant:\n%s", got, want)
	}
}

// damage is something a person or another program does to the host, and what Drift says of it.
type damage struct{ name, script, want string }

func damages() []damage {
	return []damage{
		{"forwarding off", "sysctl -qw net.ipv4.ip_forward=0", "sysctl net.ipv4.ip_forward is 0 instead of 1\nsysctl net.ipv4.conf.sbr0.forwarding is 0 instead of 1"},
		{"forwarding off on the bridge", "sysctl -qw net.ipv4.conf.sbr0.forwarding=0", "sysctl net.ipv4.conf.sbr0.forwarding is 0 instead of 1"},
		{"strict reverse path", "sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.default.rp_filter=0",
			"sysctl net.ipv4.conf.all.rp_filter is 1, so that strict reverse path filtering is in force"},
		{"bridge without address", "ip addr flush dev sbr0 scope global", "bridge sbr0 lacks the address 10.22.0.1/16"},
		{"bridge down", "ip link set sbr0 down", "bridge sbr0 is down"},
		{"bridge with another mtu", "ip link set sbr0 mtu 1300", "bridge sbr0 has mtu 1300 instead of 1500"},
		{"bridge with another MAC", "ip link set sbr0 address 0a:58:00:00:00:01",
			"bridge sbr0 has the MAC 0a:58:00:00:00:01 instead of 0a:58:0a:16:00:01"},
		{"bridge renamed in words", "ip link set sbr0 alias mine", `bridge sbr0 has the alias "mine" instead of "boxrun:sbr0"`},
		{"conflist deleted", "rm /run/boxrun/cni/boxrun-sbr0.conflist", "/run/boxrun/cni/boxrun-sbr0.conflist is missing"},
		{"conflist edited", "sed -i s/22/23/ /run/boxrun/cni/boxrun-sbr0.conflist",
			"/run/boxrun/cni/boxrun-sbr0.conflist has been changed"},
		{"offload on again", "ethtool -K veth8 tx on", "offload of veth8 is on: tx-checksum-ip-generic, tx-checksum-sctp"},
		{"the bridge's offload on again", "ethtool -K veth8 gso on sg on; ethtool -K sbr0 gso on sg on",
			"offload of sbr0 is on: tx-generic-segmentation, tx-scatter-gather, tx-scatter-gather-fraglist\n" +
				"offload of veth8 is on: tx-generic-segmentation, tx-scatter-gather, tx-scatter-gather-fraglist"},
		{"hairpin off", "bridge link set dev veth8 hairpin off", "hairpin of veth8 is off"},
		{"the veth off the bridge", "ip link set veth8 nomaster", "veth8 is not on bridge sbr0"},
		{"the veth on another bridge", "ip link add br-other type bridge; ip link set veth8 master br-other", "veth8 is not on bridge sbr0"},
		{"the veth down", "ip link del br-other; ip link set veth8 down", "veth8 is down"},
		{"bridge with an address of somebody else's", "ip addr flush dev sbr0 scope global; ip addr add 198.51.100.9/24 dev sbr0",
			"bridge sbr0 lacks the address 10.22.0.1/16"},
		{"bridge deleted", "ip link del sbr0", "bridge sbr0 is missing\nsysctl net.ipv4.conf.sbr0.forwarding does not exist\nsbr0 is missing, so its offload cannot be off\n" +
			"sysctl net.ipv4.conf.sbr0.route_localnet does not exist\nveth8 is not on bridge sbr0"},
		{"route_localnet off", "sysctl -qw net.ipv4.conf.sbr0.route_localnet=0",
			"sysctl net.ipv4.conf.sbr0.route_localnet is 0 instead of 1"},
		{"jump deleted", "iptables -D FORWARD 1",
			"chain filter/FORWARD lacks the rule: -m comment --comment boxrun:host -j BOXRUN-FWD"},
		{"jump twice", "iptables -t raw -A PREROUTING -m comment --comment boxrun:host -j BOXRUN-GUARD",
			"chain raw/PREROUTING has 2 times the rule: -m comment --comment boxrun:host -j BOXRUN-GUARD"},
		{"others' rule first", "iptables -I FORWARD -j DROP; iptables -D FORWARD -j DROP; iptables -I FORWARD -i nobody -j DROP",
			"chain filter/FORWARD has other rules before: -m comment --comment boxrun:host -j BOXRUN-FWD"},
		{"others' rules first in nat", "iptables -t nat -I PREROUTING -i nobody -j ACCEPT; iptables -t nat -I OUTPUT -o nobody -j ACCEPT",
			"chain nat/OUTPUT has other rules before: -m addrtype --dst-type LOCAL -m comment --comment boxrun:host -j BOXRUN-DNAT\n" +
				"chain nat/PREROUTING has other rules before: ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -m comment --comment boxrun:host -j BOXRUN-DNAT"},
		{"chain of chains emptied", "iptables -F BOXRUN-FWD", `chain filter/BOXRUN-FWD lacks the rule: -m comment --comment boxrun:host -j BOXRUN-REPLY
chain filter/BOXRUN-FWD lacks the rule: -m comment --comment boxrun:host -j BOXRUN-BOXES
chain filter/BOXRUN-FWD lacks the rule: -m comment --comment boxrun:host -j BOXRUN-OUT`},
		{"guard emptied", "iptables -t raw -F BOXRUN-GUARD",
			"chain raw/BOXRUN-GUARD lacks the rule: -d 127.0.0.0/8 -i sbr0 -m comment --comment boxrun:sbr0 -j DROP\n" +
				"chain raw/BOXRUN-GUARD lacks the rule: -s 127.0.0.0/8 -i sbr0 -m comment --comment boxrun:sbr0 -j DROP"},
		{"a box's rule deleted", "iptables -t nat -D BOXRUN-DN-coldfront 1", "chain nat/BOXRUN-DN-coldfront lacks the rule: " +
			"-d 127.0.0.1 -p tcp --dport 5432 -m comment --comment boxrun:coldfront -j DNAT --to-destination 10.22.0.8:5432"},
		{"a box's rule changed", "iptables -R BOXRUN-FW-coldfront 1 -m comment --comment boxrun:coldfront -j ACCEPT",
			"chain filter/BOXRUN-FW-coldfront lacks the rule: " +
				"-s 10.22.0.0/16 ! -i sbr0 -m comment --comment boxrun:coldfront -j DROP\n" +
				"chain filter/BOXRUN-FW-coldfront has a rule that does not belong there: -m comment --comment boxrun:coldfront -j ACCEPT"},
		{"a box's last rules swapped", "iptables -D BOXRUN-FW-coldfront -m comment --comment boxrun:coldfront -j DROP; " +
			"iptables -I BOXRUN-FW-coldfront -m comment --comment boxrun:coldfront -j DROP",
			"chain filter/BOXRUN-FW-coldfront has its rules in another order, or twice"},
		{"a stranger among a box's rules", "iptables -I BOXRUN-FW-coldfront -j ACCEPT",
			"chain filter/BOXRUN-FW-coldfront has a rule that does not belong there: -j ACCEPT"},
		{"a box's jump for another address", "iptables -R BOXRUN-BOXES 1 -d 10.22.0.9 -m comment --comment boxrun:coldfront -j BOXRUN-FW-coldfront",
			`chain filter/BOXRUN-BOXES lacks the rule: -d 10.22.0.8 -m comment --comment boxrun:coldfront -j BOXRUN-FW-coldfront
chain filter/BOXRUN-BOXES has a rule that is out of date: -d 10.22.0.9 -m comment --comment boxrun:coldfront -j BOXRUN-FW-coldfront`},
		{"a box's chain deleted", "iptables -D BOXRUN-BOXES -d 10.22.0.8 -m comment --comment boxrun:coldfront -j BOXRUN-FW-coldfront; iptables -F BOXRUN-FW-coldfront; iptables -X BOXRUN-FW-coldfront",
			`chain filter/BOXRUN-FW-coldfront is missing
chain filter/BOXRUN-BOXES lacks the rule: -d 10.22.0.8 -m comment --comment boxrun:coldfront -j BOXRUN-FW-coldfront`},
	}
}

func TestDriftNFT(t *testing.T)    { onBackend(t, "nft", testDrift) }
func TestDriftLegacy(t *testing.T) { onBackend(t, "legacy", testDrift) }

func testDrift(t *testing.T, h *testHost) {
	before := dumpHost(t)
	h.up()
	for _, d := range damages() {
		nstest.Shell(t, d.script)
		h.k.Reread()
		damaged := glance(t)
		if got := h.drift(); got != d.want {
			t.Errorf("%s:\ngot:\n%s\nwant:\n%s", d.name, got, d.want)
		}
		sameHost(t, d.name+": after looking", glance(t), damaged)
		h.apply()
		if got := h.drift(); got != "" {
			t.Errorf("%s: not repaired:\n%s", d.name, got)
		}
	}
	nstest.Shell(t, "iptables -t nat -D PREROUTING -i nobody -j ACCEPT; iptables -t nat -D OUTPUT -o nobody -j ACCEPT")
	nstest.Shell(t, "iptables -D FORWARD -i nobody -j DROP; sysctl -qw net.ipv4.conf.all.rp_filter=0")
	h.down()
	sameHost(t, "after down", dumpHost(t), before)
}

// glance is a quick dump of what damages touch.
func glance(t *testing.T) string {
	t.Helper()
	return withoutEmptyTables(nstest.Run(t, "iptables-save")) + nstest.Shell(t, `ip addr; bridge -d link show dev veth8; ethtool -k sbr0 || true; ethtool -k veth8
		cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/*/{rp_filter,route_localnet}; ls -l /run/boxrun/cni`)
}

// TestFlush stands for firewall reloads: all rules of all tables are gone, then all are back.
func TestFlushNFT(t *testing.T)    { onBackend(t, "nft", testFlush) }
func TestFlushLegacy(t *testing.T) { onBackend(t, "legacy", testFlush) }

func testFlush(t *testing.T, h *testHost) {
	h.up()
	up := dumpHost(t)
	nstest.Shell(t, "for t in raw mangle nat filter; do iptables -t $t -F; iptables -t $t -X; done")
	h.k.Reread()
	h.apply()
	sameHost(t, "after a reload", dumpHost(t), up)
}

// strangers are rules of others, as Docker, an administrator and ufw make them.
const strangersRules = `
	iptables -P FORWARD DROP
	iptables -N MINE
	iptables -A MINE -s 198.51.100.0/24 -m comment --comment "mine, don't \"touch\"" -j ACCEPT
	iptables -A FORWARD -j MINE
	iptables -N DOCKER-USER; iptables -A DOCKER-USER -j RETURN; iptables -I FORWARD -j DOCKER-USER
	iptables -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
	iptables -t nat -N DOCKER
	iptables -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
	iptables -t nat -A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
	iptables -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
	iptables -t nat -A DOCKER ! -i docker0 -p tcp -m tcp --dport 8000 -j DNAT --to-destination 172.17.0.2:80
	iptables -t mangle -A FORWARD -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu
	ip6tables -A INPUT -p tcp --dport 25 -j REJECT
	iptables -A INPUT -m comment --comment boxrun:host -p tcp --dport 26 -j REJECT`

func TestStrangersNFT(t *testing.T)    { onBackend(t, "nft", testStrangers) }
func TestStrangersLegacy(t *testing.T) { onBackend(t, "legacy", testStrangers) }

func testStrangers(t *testing.T, h *testHost) {
	nstest.Shell(t, strangersRules)
	before := dumpHost(t)
	h.up()
	nstest.Shell(t, "iptables -I FORWARD -j DOCKER-USER; iptables -t nat -I PREROUTING -j DOCKER") // a restart of Docker
	h.k.Reread()
	h.apply()
	if got, want := nstest.Run(t, "iptables", "-S", "FORWARD", "1"),
		`-A FORWARD -m comment --comment "boxrun:host" -j BOXRUN-FWD`; got != want {
		t.Errorf("first rule of FORWARD:\ngot  %s\nwant %s", got, want)
	}
	nstest.Shell(t, "iptables -D FORWARD 2; iptables -t nat -D PREROUTING 2")
	h.down()
	sameHost(t, "after down", dumpHost(t), before)
}

func TestFailedStepNFT(t *testing.T)    { onBackend(t, "nft", testFailedStep) }
func TestFailedStepLegacy(t *testing.T) { onBackend(t, "legacy", testFailedStep) }

// testFailedStep has iptables refuse the last table's rules when the others are written.
func testFailedStep(t *testing.T, h *testHost) {
	before := dumpHost(t)
	h.plans[2].Chains[2].Rules = append(h.plans[2].Chains[2].Rules, "-p tcp -j DNAT --to-destination nonsense")
	for _, p := range h.plans[:2] {
		if err := errorsOf(p.Record(h.k), p.Apply(h.k)); err != nil {
			t.Fatal(err)
		}
	}
	nstest.Shell(t, "ip link set veth8 master sbr0")
	err := errorsOf(h.plans[2].Record(h.k), h.plans[2].Apply(h.k))
	const start = "setting up the rules of boxrun:coldfront: running iptables-restore --noflush -w 30: exit status 2: "
	const end = ": -A BOXRUN-DN-coldfront -p tcp -j DNAT --to-destination nonsense"
	if err == nil || !strings.HasPrefix(err.Error(), start) || !strings.HasSuffix(err.Error(), end) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got error %v\nwant %s ... %s", err, start, end)
	}
	h.down()
	sameHost(t, "after a failed up", dumpHost(t), before)
}

func errorsOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func TestTypedCommandsNFT(t *testing.T)    { onBackend(t, "nft", testTypedCommands) }
func TestTypedCommandsLegacy(t *testing.T) { onBackend(t, "legacy", testTypedCommands) }

// testTypedCommands pastes the commands into a shell. The range of ports is a short one: conntrack is started for each port
// and each address of the host.
func testTypedCommands(t *testing.T, h *testHost) {
	box := coldfront()
	box.Ports[4].Count = 3
	*h.plans[2] = Ports(box)
	before := dumpHost(t)
	h.up()
	up := dumpHost(t)
	h.down()
	for i, p := range h.plans {
		if i == 2 {
			nstest.Shell(t, "ip link set veth8 master sbr0; ip link set veth8 up")
		}
		nstest.Shell(t, strings.Join(p.Commands(), "\n"))
	}
	h.k.Reread()
	sameHost(t, "after typing the commands", withoutIndexes(dumpHost(t)), withoutIndexes(up))
	if got := h.drift(); got != "" {
		t.Errorf("after typing the commands, drifted:\n%s", got)
	}
	for i, p := range slices.Backward(h.plans) {
		nstest.Shell(t, strings.Join(p.UndoCommands(), "\n"))
		if i == 2 {
			nstest.Shell(t, "ip link set veth8 nomaster; ip link set veth8 down")
		}
	}
	sameHost(t, "after typing the undo commands", dumpHost(t), before)
	nstest.Shell(t, strings.Join(h.plans[0].Commands(), "\n")+"\n"+strings.Join(h.plans[2].Commands()[2:], "\n")+"\nip link del veth8\n"+
		strings.Join(h.plans[2].UndoCommands(), "\n")) // the box has gone, and its veth with it
}

// TestKilledNFT stops after each step, as kill -9 does, and undoes from what was stored before the first.
func TestKilledNFT(t *testing.T)    { onBackend(t, "nft", testKilled) }
func TestKilledLegacy(t *testing.T) { onBackend(t, "legacy", testKilled) }

func testKilled(t *testing.T, h *testHost) {
	before := dumpHost(t)
	for plan := range h.plans {
		for n := range h.plans[plan].steps() {
			h.upUntil(plan, n)
			sameHost(t, fmt.Sprintf("killed in plan %d at step %d", plan, n), dumpHost(t), before)
		}
	}
}

// upUntil does the plans before the one given and its first n steps and, if the next one is that of the rules, the first
// n of its tables; then it undoes them as they are stored.
func (h *testHost) upUntil(plan, n int) {
	h.t.Helper()
	all := h.plans
	defer func() { h.plans = all }()
	h.plans = slices.Clone(all[:plan+1])
	last := h.plans[plan]
	h.plans[plan] = &Plan{}
	h.up()
	h.plans[plan] = last
	if err := last.Record(h.k); err != nil {
		h.t.Fatal(err)
	}
	for _, s := range last.steps()[:n] {
		drift, err := s.check(h.k)
		if err == nil && len(drift) > 0 {
			err = s.ensure(h.k)
		}
		if err != nil {
			h.t.Fatal(err)
		}
	}
	if r, ok := last.steps()[n].(rulesets); ok {
		e, err := r.repair(h.k)
		if err == nil {
			err = h.k.restore("iptables", e[0].input(tableOrder()[:min(n, len(tableOrder()))]))
		}
		if err != nil {
			h.t.Fatal(err)
		}
	}
	h.down()
}

func TestFoundBridge(t *testing.T) { onBackend(t, "nft", testFoundBridge) }

// testFoundBridge takes a bridge of somebody else's, and leaves it as it was, with what the CNI plugin does to it.
func testFoundBridge(t *testing.T, h *testHost) {
	for _, found := range []string{
		"ip link set sbr0 down",
		"ip addr add 10.22.0.1/16 brd + dev sbr0; sysctl -qw net.ipv4.conf.sbr0.route_localnet=1",
		"ip link set sbr0 mtu 1400 promisc on; ethtool -K sbr0 tx off gso off",
	} {
		nstest.Shell(t, "ip link add sbr0 address 02:00:00:00:00:01 type bridge; ip link set sbr0 up; "+
			"ip link set veth8 master sbr0; ip link set veth8 nomaster; "+found)
		before := dumpHost(t)
		h.up()
		nstest.Shell(t, "ip link set sbr0 promisc on; sysctl -qw net.ipv6.conf.sbr0.accept_ra=0")
		h.k.Reread()
		if got := h.drift(); got != "" {
			t.Errorf("%s: drifted:\n%s", found, got)
		}
		h.down()
		sameHost(t, found+": after down", dumpHost(t), before)
		bridge := h.plans[1]
		nstest.Shell(t, strings.Join(h.plans[0].Commands(), "\n")+"\n"+strings.Join(bridge.Commands(), "\n"))
		h.k.Reread()
		if drift, err := bridge.Drift(h.k); len(drift) > 0 || err != nil {
			t.Errorf("%s: typed, drifted:\n%s\n%v", found, strings.Join(drift, "\n"), err)
		}
		nstest.Shell(t, strings.Join(bridge.UndoCommands(), "\n")+"\n"+strings.Join(h.plans[0].UndoCommands(), "\n"))
		sameHost(t, found+": after typing the undo commands", dumpHost(t), before)
		nstest.Shell(t, "ip link del sbr0")
	}
}

func TestFoundBridgeInUse(t *testing.T) { onBackend(t, "nft", testFoundBridgeInUse) }

// testFoundBridgeInUse has somebody else's box on somebody else's bridge at down.
func testFoundBridgeInUse(t *testing.T, h *testHost) {
	nstest.Shell(t, "ip link add sbr0 address 02:00:00:00:00:01 type bridge")
	h.up()
	nstest.Shell(t, "ip link add raw0 type veth peer name raw1; ip link set raw0 master sbr0")
	h.down()
	if got, want := nstest.Shell(t, "ip -o -4 addr show up dev sbr0 | grep -o 10.22.0.1/16"), "10.22.0.1/16"; got != want {
		t.Errorf("the bridge with a port on it: got address %q, want %q", got, want)
	}
	nstest.Shell(t, "ip link del raw0; ip link del sbr0")
}

func TestRefusedBridge(t *testing.T) { onBackend(t, "nft", testRefusedBridge) }

func testRefusedBridge(t *testing.T, h *testHost) {
	for _, c := range []struct{ script, want string }{
		{"ip link add sbr0 type bridge; ip addr add 10.5.0.1/24 dev sbr0",
			"recording bridge sbr0: it exists with the address 10.5.0.1/24 instead of 10.22.0.1/16"},
		{"ip link add sbr0 type veth peer name other", "recording bridge sbr0: it exists and is no bridge but a veth device"},
	} {
		nstest.Shell(t, c.script)
		if err := h.plans[1].Record(h.k); err == nil || err.Error() != c.want {
			t.Errorf("%s:\ngot  %v\nwant %s", c.script, err, c.want)
		}
		nstest.Shell(t, "ip link del sbr0")
	}
}

func TestBridgeInUse(t *testing.T) { onBackend(t, "nft", testBridgeInUse) }

// testBridgeInUse has somebody else's box on our bridge at down, and knows the bridge again at the next up.
func testBridgeInUse(t *testing.T, h *testHost) {
	before := dumpHost(t)
	h.up()
	nstest.Shell(t, "ip link add raw0 type veth peer name raw1; ip link set raw0 master sbr0")
	h.down()
	if got, want := nstest.Shell(t, "ip -o -4 addr show sbr0 | grep -o 10.22.0.1/16"), "10.22.0.1/16"; got != want {
		t.Errorf("the bridge with a port on it: got address %q, want %q", got, want)
	}
	nstest.Shell(t, "ip link del raw0")
	h.up()
	h.down()
	sameHost(t, "after the last down", dumpHost(t), before)
}

func TestUndoOfRunningBox(t *testing.T) { onBackend(t, "nft", testUndoOfRunningBox) }

// testUndoOfRunningBox takes a box's plan back while its veth is still there, as after an up that failed.
func testUndoOfRunningBox(t *testing.T, h *testHost) {
	for _, p := range h.plans[:2] {
		if err := errorsOf(p.Record(h.k), p.Apply(h.k)); err != nil {
			t.Fatal(err)
		}
	}
	nstest.Shell(t, "ip link set veth8 master sbr0; ip link set veth8 up")
	before := dumpHost(t)
	p := h.plans[2]
	if err := errorsOf(p.Record(h.k), p.Apply(h.k), stored(t, *p).Undo(h.k)); err != nil {
		t.Fatal(err)
	}
	sameHost(t, "after the box's undo", dumpHost(t), before)
}

// TestUndoOneByOne has the transaction of each undo refused: the rest goes all the same.
func TestUndoOneByOne(t *testing.T) {
	onBackend(t, "legacy", func(t *testing.T, h *testHost) {
		before := dumpHost(t)
		h.up()
		failing(t, "iptables-restore", "ip6tables-restore")
		h.down()
		sameHost(t, "after down", dumpHost(t), before)
	})
}

// failing puts programs first in PATH that only fail.
func failing(t *testing.T, names ...string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// generation returns the number of the kernel's rules.
func generation(t *testing.T) uint32 {
	t.Helper()
	now, err := rules.Generation("iptables")
	if err != nil {
		t.Fatal(err)
	}
	return now
}

// TestUndoByTheKernel takes rules back beside those of others, with programs that cannot write any.
func TestUndoByTheKernel(t *testing.T) {
	onBackend(t, "nft", func(t *testing.T, h *testHost) {
		nstest.Shell(t, strangersRules)
		before := dumpHost(t)
		h.up()
		nstest.Shell(t, "iptables -I FORWARD -j DOCKER-USER; iptables -t nat -I PREROUTING -j DOCKER")
		path := os.Getenv("PATH")
		failing(t, "iptables-restore", "ip6tables-restore")
		began := generation(t)
		h.down()
		if made := generation(t) - began; made != 4 {
			t.Errorf("%d transactions, want one each for the host, the bridge, its ways of answers and the box", made)
		}
		t.Setenv("PATH", path)
		nstest.Shell(t, "iptables -D FORWARD 1; iptables -t nat -D PREROUTING 1")
		sameHost(t, "after down", dumpHost(t), before)
	})
}

// TestBridgeGoesAhead takes a bridge away with the veth of the last box still on it, and leaves one with another port.
func TestBridgeGoesAhead(t *testing.T) {
	onBackend(t, "nft", func(t *testing.T, h *testHost) {
		h.up()
		nstest.Shell(t, "ip link add other0 type veth peer name other1")
		there := func() bool {
			link, err := h.k.linkByName("sbr0")
			if err != nil {
				t.Fatal(err)
			}
			return link != nil
		}
		for _, c := range []struct {
			ports string
			want  bool
		}{{"ip link set other0 master sbr0", true}, {"ip link set other0 nomaster", false}} {
			nstest.Shell(t, c.ports)
			if err := errors.Join(UndoAll(h.k, h.plans[1].Ahead("veth8"))...); err != nil || there() != c.want {
				t.Errorf("%s: %v; bridge there: %v, want %v", c.ports, err, there(), c.want)
			}
		}
	})
}

// TestWithdrawOfOtherRules removes nothing by rules that are not the kernel's any more.
func TestWithdrawOfOtherRules(t *testing.T) {
	onBackend(t, "nft", func(t *testing.T, h *testHost) {
		h.up()
		have, err := h.k.rules(v4)
		if err != nil {
			t.Fatal(err)
		}
		first := have.Rules("filter", "FORWARD")[0].Text
		for name, change := range map[string]string{
			"another rule before": "iptables -I FORWARD -s 192.0.2.9 -j ACCEPT",
			"a rule of nft's":     "nft add table inet others",
		} {
			nstest.Shell(t, change)
			before := dumpHost(t)
			lines := []string{"*filter", "-D FORWARD " + first, "COMMIT"}
			if err := rules.Withdraw(rules.Removal{Kept: h.k.kept[v4], Lines: lines}); err == nil {
				t.Errorf("%s: removed %q", name, first)
			}
			sameHost(t, name, dumpHost(t), before)
		}
	})
}

func TestOtherSpellingNFT(t *testing.T)    { onBackend(t, "nft", testOtherSpelling) }
func TestOtherSpellingLegacy(t *testing.T) { onBackend(t, "legacy", testOtherSpelling) }

// testOtherSpelling has another version of iptables, which prints some of our rules otherwise: no reason to write.
func testOtherSpelling(t *testing.T, h *testHost) {
	h.up()
	save, err := exec.LookPath("iptables-save")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	script := "#!/bin/sh\n" + save + " | sed 's/RELATED,ESTABLISHED/ESTABLISHED,RELATED/; s/--dst-type LOCAL/--dst-type local/; " +
		"s/9000:9100/9000-9100/; s/! --ctstate DNAT/--ctstate !DNAT/'\n"
	if err := os.WriteFile(filepath.Join(dir, "iptables-save"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	h.k.Reread()
	if got := h.drift(); got != "" {
		t.Errorf("drifted:\n%s", got)
	}
	nstest.Shell(t, "iptables -t nat -D OUTPUT 1; iptables -t nat -D BOXRUN-DN-coldfront 1")
	h.k.Reread()
	if got, want := h.drift(), `chain nat/OUTPUT lacks the rule: -m addrtype --dst-type LOCAL -m comment --comment boxrun:host -j BOXRUN-DNAT
chain nat/BOXRUN-DN-coldfront lacks the rule: -d 127.0.0.1 -p tcp --dport 5432`; !strings.HasPrefix(got, want) {
		t.Errorf("with two rules deleted:\ngot:\n%s\nwant:\n%s ...", got, want)
	}
}

func TestTwoBridgesNFT(t *testing.T)    { onBackend(t, "nft", testTwoBridges) }
func TestTwoBridgesLegacy(t *testing.T) { onBackend(t, "legacy", testTwoBridges) }

// testTwoBridges takes the host's plan back while the second bridge still needs it.
func testTwoBridges(t *testing.T, h *testHost) {
	before := dumpHost(t)
	nstest.Shell(t, "ip link add veth9 type veth peer name eth9")
	h.up()
	network, box := sbr0(), coldfront()
	network.Bridge, network.Subnet = "sbr1", netip.MustParsePrefix("10.23.0.0/16")
	box.Name, box.Bridge, box.Veth, box.Addr = "second", "sbr1", "veth9", netip.MustParseAddr("10.23.0.2")
	second := Bridge(network)
	if err := errorsOf(second.Record(h.k), second.Apply(h.k)); err != nil {
		t.Fatal(err)
	}
	nstest.Shell(t, "ip link set veth9 master sbr1")
	ports := Ports(box)
	if err := errorsOf(ports.Record(h.k), ports.Apply(h.k)); err != nil {
		t.Fatal(err)
	}
	if got := h.drift(); got != "" {
		t.Errorf("the second bridge made the first drift:\n%s", got)
	}
	nstest.Shell(t, "ip link set veth8 nomaster; ip link set veth8 down")
	for _, p := range slices.Backward(h.plans) {
		if err := p.Undo(h.k); errors.Is(err, ErrInUse) != (p == h.plans[0]) || err != nil && !errors.Is(err, ErrInUse) {
			t.Errorf("undoing %s: got %v, want %v of the host's plan alone", p.Owner, err, ErrInUse)
		}
	}
	h.plans = []*Plan{h.plans[0], &second, &ports}
	if got := h.drift(); got != "" {
		t.Errorf("after the first bridge went, drifted:\n%s", got)
	}
	nstest.Shell(t, "ip link set veth9 nomaster")
	h.down()
	nstest.Shell(t, "ip link del veth9")
	sameHost(t, "after down", dumpHost(t), before)
}

func TestSweepNFT(t *testing.T)    { onBackend(t, "nft", testSweep) }
func TestSweepLegacy(t *testing.T) { onBackend(t, "legacy", testSweep) }

// testSweep brings back rules as a service does that saves them at shutdown: those of a box and of a bridge that are gone.
func testSweep(t *testing.T, h *testHost) {
	h.up()
	up := dumpHost(t)
	old := coldfront()
	old.Name, old.Addr = "old", netip.MustParseAddr("10.22.0.7")
	gone := Ports(old)
	rules := rulesets{{family: v4, owner: gone.Owner, chains: gone.Chains, rules: gone.Rules}}
	oldNetwork := sbr0()
	oldNetwork.Bridge = "sbr7"
	bridge := rulesets{{family: v4, owner: "boxrun:sbr7", rules: Bridge(oldNetwork).Rules}}
	if err := errorsOf(rules.ensure(h.k), bridge.ensure(h.k)); err != nil {
		t.Fatal(err)
	}
	swept, err := Sweep(h.k, []string{"coldfront"})
	if got, want := strings.Join(swept, ", "), "box old, bridge sbr7"; got != want || err != nil {
		t.Errorf("swept %q, error %v, want %q", got, err, want)
	}
	sameHost(t, "after sweeping", dumpHost(t), up)
}

// TestSpeed measures, and fails only where something costs ten times what it should.
func TestSpeedNFT(t *testing.T)    { alone(t, "nft", testSpeed) }
func TestSpeedLegacy(t *testing.T) { alone(t, "legacy", testSpeed) }

func testSpeed(t *testing.T, h *testHost) {
	nstest.Shell(t, "ip link add sbr0 type bridge; ip link set veth8 master sbr0") // so that plans can be applied in one go
	start := time.Now()
	for _, p := range h.plans {
		if err := errorsOf(p.Record(h.k), p.Apply(h.k)); err != nil {
			t.Fatal(err)
		}
	}
	applied := time.Now()
	h.k.Reread()
	if got := h.drift(); got != "" {
		t.Errorf("drifted:\n%s", got)
	}
	checked := time.Now()
	h.down()
	t.Logf("record and apply %v, drift %v, undo %v", applied.Sub(start), checked.Sub(applied), time.Since(checked))
	if os.Getenv("BOXRUN_SOAK") != "" && (applied.Sub(start) > 400*time.Millisecond || checked.Sub(applied) > 150*time.Millisecond) { // beside others a machine is as slow as it is
		t.Error("too slow")
	}
}

// An iptables that cannot tell its version says why, and the error has it.
func TestIptablesThatFails(t *testing.T) {
	dir := t.TempDir()
	fake := "#!/bin/sh\necho 'iptables: error while loading shared libraries: libxtables.so.12' >&2\nexit 127\n"
	if err := os.WriteFile(filepath.Join(dir, "iptables"), []byte(fake), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	_, err := new(Kernel).iptables(v4)
	if err == nil || !strings.Contains(err.Error(), "libxtables.so.12") {
		t.Errorf("got %v, want what iptables said", err)
	}
}
