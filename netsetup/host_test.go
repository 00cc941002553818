package netsetup

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"boxrun/netsetup/nstest"
)

// onBackend runs a test on a host with one of iptables' two backends.
func onBackend(t *testing.T, backend string, test func(t *testing.T, h *testHost)) {
	t.Helper()
	nstest.WithBackend(t, backend, nstest.SideBySide, func(t *testing.T) { test(t, newTestHost(t)) })
}

// alone does the same while no other test runs.
func alone(t *testing.T, backend string, test func(t *testing.T, h *testHost)) {
	t.Helper()
	nstest.WithBackend(t, backend, nstest.Alone, func(t *testing.T) { test(t, newTestHost(t)) })
}

// testHost is a host with an external device and the veth of a box that is about to be started.
type testHost struct {
	t     *testing.T
	k     *Kernel
	plans []*Plan // in the order of Apply
}

// newTestHost is strict about reverse paths, as Red Hat's hosts are, and was not a router. The host has two default
// routes, and a rule for a source address, so that answers take three ways.
func newTestHost(t *testing.T) *testHost {
	t.Helper()
	nstest.Shell(t, `
		sysctl -qw net.ipv6.conf.default.disable_ipv6=1 # its addresses come and go by themselves
		ip link add ext0 type veth peer name ext1
		ip addr add 192.0.2.1/24 dev ext0
		ip link set ext0 up
		ip link set ext1 up
		ip route add default via 192.0.2.2
		ip addr add 198.51.100.1/24 dev ext1; ip addr add 192.0.3.1/24 dev ext1
		ip route add default via 198.51.100.254 dev ext1 metric 200
		ip route add default via 192.0.3.254 dev ext1 table 100; ip rule add from 192.0.3.1 lookup 100
		ip link add veth8 type veth peer name eth8
		ip link set veth8 up; ip link set veth8 down # its queue is made at the first up
		# The kernel tells of a carrier by and by, on a busy machine after the first look at the host.
		timeout 60 sh -c 'until [ "$(ip -br link show up | grep -c "^ext.* UP ")" = 2 ]; do sleep 0.01; done'
		sysctl -qw net.ipv4.ip_forward=0 net.ipv4.conf.ext0.rp_filter=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
		sysctl -qw net.ipv4.conf.all.accept_redirects=0 net.ipv4.conf.ext1.forwarding=1 # the kernel changes both with ip_forward
		mkdir /run/boxrun`)
	k, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	host, bridge, ports := Host(), Bridge(sbr0()), Ports(coldfront())
	return &testHost{t, k, []*Plan{&host, &bridge, &ports}}
}

// up does what a start does: record all of a plan before it is applied, the box's when its veth is on the bridge.
func (h *testHost) up() {
	h.t.Helper()
	for _, p := range h.plans {
		if p.Plug != nil {
			nstest.Shell(h.t, "ip link set veth8 master sbr0; ip link set veth8 up")
		}
		h.k.Reread()
		if err := p.Record(h.k); err != nil {
			h.t.Fatal(err)
		}
		if err := p.Apply(h.k); err != nil {
			h.t.Fatal(err)
		}
	}
}

// down undoes the plans as they are read back from their state files.
func (h *testHost) down() {
	h.t.Helper()
	nstest.Shell(h.t, "ip link set veth8 nomaster; ip link set veth8 down")
	for _, p := range slices.Backward(h.plans) {
		if err := stored(h.t, *p).Undo(h.k); err != nil {
			h.t.Error(err)
		}
	}
}

// drift gives what all plans find out of place.
func (h *testHost) drift() string {
	h.t.Helper()
	var lines []string
	for _, p := range h.plans {
		drift, err := p.Drift(h.k)
		if err != nil {
			h.t.Fatal(err)
		}
		lines = append(lines, drift...)
	}
	return strings.Join(lines, "\n")
}

// apply repairs what drifted.
func (h *testHost) apply() {
	h.t.Helper()
	for _, p := range h.plans {
		if err := p.Apply(h.k); err != nil {
			h.t.Fatal(err)
		}
	}
}

// stored returns a plan as it comes back from a file.
func stored(t *testing.T, p Plan) Plan {
	t.Helper()
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var back Plan
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	return back
}

// dumpHost returns all of the host that boxrun could change: the rules of all tables, links, addresses, routes,
// features, sysctls, and the files of its run directory. Built-in tables and chains without rules are left out:
// iptables makes them when they are first looked at.
func dumpHost(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, save := range []string{"iptables-save", "ip6tables-save"} {
		fmt.Fprintf(&b, "== %s\n%s", save, withoutEmptyTables(nstest.Run(t, save)))
	}
	fmt.Fprintf(&b, "== nft\n%s", withoutEmptyChains(nstest.Run(t, "nft", "list", "ruleset")))
	timers := regexp.MustCompile(`\S+_timer +\S+|linkinfo|valid_lft.*`)
	b.WriteString(timers.ReplaceAllString(nstest.Shell(t, `
		echo == links; ip -d link; ip addr; bridge -d link
		echo == routes; ip route show table all; ip -6 route show table all; ip rule; ip -6 rule
		echo == features; for d in $(ip -o link | sed 's/^[0-9]*: \([^:@]*\).*/\1/'); do echo $d; ethtool -k $d; done
		echo == sysctls; sysctl -a 2>/dev/null | grep '^net' | grep -v 'nf_conntrack_count\|neigh.*_ms\|net.core.bpf\|fib_multipath_hash_seed'
		echo == files; find /run/boxrun -printf '%p %y %l %s\n' | sort`), ""))
	return b.String()
}

// withoutEmptyTables drops, of iptables-save's output, tables without rules, chains of their own or a policy, and
// counters and comments.
func withoutEmptyTables(saved string) string {
	counters := regexp.MustCompile(` \[\d+:\d+\]`)
	var kept, table []string
	inUse := false
	for line := range strings.Lines(counters.ReplaceAllString(saved, "")) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "*"):
			table, inUse = []string{line}, false
		case line == "COMMIT":
			if inUse {
				kept = append(kept, table...)
			}
		default:
			table = append(table, line)
			inUse = inUse || !strings.HasSuffix(line, " ACCEPT") || !strings.HasPrefix(line, ":")
		}
	}
	return strings.Join(kept, "\n") + "\n"
}

// withoutEmptyChains drops, of nft's output, base chains that hold nothing and accept, and tables that hold no more,
// and the counters of rules. The chains of a table are sorted.
func withoutEmptyChains(ruleset string) string {
	ruleset = regexp.MustCompile(`packets \d+ bytes \d+`).ReplaceAllString(ruleset+"\n", "")
	ruleset = regexp.MustCompile(`(?m)^\tchain \S+ \{\n\t\ttype .*policy accept;\n\t\}\n+`).ReplaceAllString(ruleset, "")
	var kept []string
	for _, table := range regexp.MustCompile(`(?ms)^table .*?^\}`).FindAllString(ruleset, -1) {
		chains := regexp.MustCompile(`(?ms)^\tchain .*?^\t\}`).FindAllString(table, -1)
		head, _, _ := strings.Cut(table, "\n")
		slices.Sort(chains)
		if len(chains) > 0 {
			kept = append(kept, head+"\n"+strings.Join(chains, "\n"))
		}
	}
	return strings.Join(kept, "\n") + "\n"
}

// sameHost compares two dumps and shows the lines that differ.
func sameHost(t *testing.T, when, got, want string) {
	t.Helper()
	if got == want {
		return
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"got": got, "want": want} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	diff, _ := exec.Command("diff", "-U1", filepath.Join(dir, "want"), filepath.Join(dir, "got")).Output()
	t.Errorf("%s the host is not as it should be:\n%s", when, diff)
}

// withoutIndexes drops the numbers of links from a dump: one that is made again has another.
func withoutIndexes(dump string) string {
	return regexp.MustCompile(`(?m)^\d+: `).ReplaceAllString(dump, "")
}
