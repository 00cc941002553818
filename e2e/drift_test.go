package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"boxrun/e2e/testhost"
)

// A drift is a change of the host that cuts boxes off.
type drift struct {
	name, script string
	word         string // status says it
	needs        string // what a host must have for the change; "" for nothing
}

// What a host must have for some drifts.
const (
	someFirewalld = "firewalld"
	someUplinks   = "several uplinks"
	portFlags     = "flags of ports of a bridge that iproute2 5.10 does not know"
)

// drifts are the ways a box's network falls apart on a host that others administer too. status has to name each with one
// of words, and up has to mend it.
func drifts() []drift {
	return []drift{
		{name: "a rule deleted", script: "iptables -t nat -F BOXRUN-DN-web", word: "BOXRUN-DN-web"},
		{name: "a forward rule deleted", script: "iptables -D BOXRUN-FWD 1", word: "BOXRUN-FWD"},
		{name: "a jump deleted", script: "iptables -D FORWARD -j $(iptables -S FORWARD | grep -o BOXRUN-FWD) -m comment --comment boxrun:host 2> /dev/null || " +
			"iptables -D FORWARD 1", word: "FORWARD"},
		{name: "everything flushed", script: "iptables -F; iptables -X; iptables -t nat -F; iptables -t nat -X", word: "BOXRUN-DNAT"},
		{name: "a jump pushed down", script: "iptables -I FORWARD -j DROP", word: "FORWARD"},
		{name: "offload on again", script: "ethtool -K sbr0 tx on sg on gso on; ethtool -K $(ip -br link show master sbr0 | cut -d @ -f 1 | head -n 1) tx on sg on gso on", word: "offload"},
		{name: "forwarding off", script: "sysctl -qw net.ipv4.ip_forward=0", word: "ip_forward"},
		{name: "the guard gone", script: "iptables -t raw -F BOXRUN-GUARD", word: "BOXRUN-GUARD"},
		{name: "the clamp gone", script: "iptables -t mangle -F BOXRUN-MSS", word: "BOXRUN-MSS"},
		{name: "another address inside", script: "boxrun exec web -- sh -c 'ip addr add 10.22.7.7/16 dev eth0 && ip addr del $(ip -br -4 addr show eth0 | " +
			"tr \" \" \"\\n\" | grep -v 10.22.7.7 | grep /16) dev eth0; ip addr show eth0 | grep -q 10.22.7.7 || ip addr add 10.22.7.7/16 dev eth0; " +
			"ip route replace default via 10.22.0.1'", word: "10.22.7.7"},
	}
}

// heldDrifts are the ways a box loses what else the host holds for it: its limits, where the host has the controller, and its
// place among the machines of machined, where the host has machined. Each comes twice, for either way to mend it.
func (h host) heldDrifts() []drift {
	var all []drift
	if h.run("grep", "-qw", "pids", "/sys/fs/cgroup/cgroup.controllers").Code == 0 {
		h.sh("printf '[resources]\npids = 400\n' >> /etc/boxrun/profiles/web.toml")
		lifted := "systemctl set-property --runtime $(basename $(jq -r .state.cgroup /run/boxrun/boxes/web.json)) TasksMax=infinity"
		all = append(all, drift{name: "a limit lifted", script: lifted, word: "resources.pids"}, drift{name: "a limit lifted again", script: lifted, word: "resources.pids"})
	}
	if h.run("test", "-e", "/usr/share/dbus-1/system-services/org.freedesktop.machine1.service").Code == 0 {
		forgotten := "busctl call org.freedesktop.machine1 /org/freedesktop/machine1 org.freedesktop.machine1.Manager UnregisterMachine s web"
		all = append(all, drift{name: "a machine forgotten", script: forgotten, word: "machinectl"}, drift{name: "a machine forgotten again", script: forgotten, word: "machinectl"})
	}
	return all
}

func TestDriftIsNamedAndMended(t *testing.T) {
	boot := testhost.New
	if soak() {
		boot = testhost.NewEquipped // with machined
	}
	h := bootHost(t, boot)
	h.sh("sed -i '/^\\[network\\]/a offload = \"off\"' /etc/boxrun/profiles/web.toml; " + quickLooks)
	held := h.heldDrifts()
	h.must("boxrun", "up", "web")
	pid := boxes(h)[0].PID
	mend := [][]string{{"boxrun", "up", "web"}, {"boxrun", "repair"}}
	for i, drift := range append(held, drifts()...) {
		t.Run(drift.name, func(t *testing.T) {
			h := h.in(t)
			if got := h.must("boxrun", "status", "web"); strings.Contains(got, "drifted") {
				t.Fatalf("before anything, status says\n%s", got)
			}
			h.sh(drift.script)
			if got := h.must("boxrun", "status", "web"); !containsAll(got, []string{"drifted", drift.word}) {
				t.Errorf("status says\n%s\nwant that %s drifted", got, drift.word)
			}
			h.shows(10*time.Second, "drifted")
			h.agree("web")
			if got := h.run("boxrun", "doctor", "web"); got.Code == 0 || !strings.Contains(got.Stdout, "FAIL") {
				t.Errorf("doctor finds nothing: %v", got)
			}
			h.must(mend[i%len(mend)]...)
			h.agree("web")
			if got := h.must("boxrun", "status", "web"); strings.Contains(got, "drifted") {
				t.Errorf("after up or repair, status says\n%s", got)
			}
			h.page()
		})
	}
	if now := boxes(h)[0].PID; now != pid {
		t.Errorf("the box was started anew: pid %d, then %d", pid, now)
	}
}

// agree checks that all who look at a running box see the same drift, whether or not rules are read from what an earlier
// look kept.
func (h host) agree(box string) {
	h.t.Helper()
	look := `.drift | tojson`
	seen := []string{
		h.sh("boxrun ps --json " + box + " | jq -r '.[0]" + look + "'"), h.sh("boxrun status --json " + box + " | jq -r '" + look + "'"),
		h.sh("boxrun diff --json " + box + " | jq -r '" + look + "'"),
		h.sh("rm -f /run/boxrun/*.kept-rules; boxrun ps --json " + box + " | jq -r '.[0]" + look + "'"),
	}
	if slices.ContainsFunc(seen, func(drift string) bool { return drift != seen[0] }) {
		h.t.Errorf("ps, status, diff, and ps without rules kept, see\n%s", strings.Join(seen, "\n"))
	}
	check := h.run("boxrun", "status", "--check", box)
	unhealthy := check.Code == 10 // said first of a box that nobody reaches
	if drifted := strings.TrimSpace(seen[0]) != "[]"; drifted != (check.Code == 12 || unhealthy) {
		h.t.Errorf("of the drift %s status --check says: %v", seen[0], check)
	}
}

// What overlaps the boxes' subnet and comes after them is told by all who look, and mended by nobody.
func TestAnOverlapThatComesLater(t *testing.T) {
	h := newHost(t)
	h.must("boxrun", "up", "web")
	six := strings.Fields(h.sh("ip -6 route show dev sbr0 proto kernel | grep ^fd"))[0]
	part := strings.TrimSuffix(six, "64") + "96"
	h.overlaps("ip route %s 10.22.128.0/17 via 192.0.2.2", "subnet 10.22.0.0/16 of sbr0 overlaps the route to 10.22.128.0/17 by eth0")
	h.overlaps("ip route %s "+part+" dev eth0", "subnet "+six+" of sbr0 overlaps the route to "+part+" by eth0")
}

// overlaps adds a route beside the running box web: up, status and doctor say so until the route is gone.
func (h host) overlaps(route, want string) {
	h.t.Helper()
	h.sh(fmt.Sprintf(route, "add"))
	for _, argv := range [][]string{{"up", "web"}, {"status", "web"}, {"doctor", "web"}, {"repair"}} {
		r := h.run(append([]string{"boxrun"}, argv...)...)
		if !strings.Contains(r.Stdout+r.Stderr, want) {
			h.t.Errorf("boxrun %s does not say %q: %v", strings.Join(argv, " "), want, r)
		}
	}
	h.sh(fmt.Sprintf(route, "del"))
	if r := h.run("boxrun", "up", "web"); strings.Contains(r.Stderr, "overlaps") {
		h.t.Errorf("without the route: %v", r)
	}
}

// A box whose processes were killed is started anew by up, and cleared away by down.
func TestACrashedBox(t *testing.T) {
	sideBySide(t)
	for _, verb := range []string{"up", "down"} {
		t.Run(verb, func(t *testing.T) {
			h := newHost(t)
			before := h.dump()
			h.must("boxrun", "up", "web")
			h.sh("kill -9 $(boxrun ps --json | jq '.[0].pid')")
			crashed := func() string {
				if got := h.must("boxrun", "ps", "--json"); !strings.Contains(got, "crashed") {
					return got
				}
				return ""
			}
			if got := eventually(20*time.Second, crashed); got != "" {
				t.Errorf("ps --json says %s, want a crashed box", got)
			}
			h.must("boxrun", verb, "web")
			if verb == "up" {
				h.page()
				h.must("boxrun", "down", "web")
			}
			h.same(before, stays()...)
		})
	}
}

// A box that powers itself off leaves things on the host until somebody looks; down takes them away.
func TestPoweroffInside(t *testing.T) {
	h := newHost(t)
	before := h.dump()
	h.must("boxrun", "up", "web")
	h.run("boxrun", "exec", "web", "--", "systemctl", "poweroff")
	gone := func() string {
		return strings.TrimSpace(h.must("sh", "-c", "pgrep -f '^Apptainer instance' || true"))
	}
	if got := eventually(20*time.Second, gone); got != "" {
		t.Errorf("the box still runs: %s", got)
	}
	h.must("boxrun", "down", "web")
	h.same(before, stays()...)
}

// flushAtStart makes every start of a box flush all rules of the host, once the first rules of the box are there.
const flushAtStart = `cat > /usr/local/bin/apptainer << 'END'
#!/bin/bash
case "$*" in *"instance start"*)
	for i in {1..500}; do iptables-save -t nat | grep -q BOXRUN-DN- && break; sleep 0.01; done
	nft flush ruleset ;;
esac
exec -a apptainer /usr/bin/apptainer "$@"
END
chmod 755 /usr/local/bin/apptainer`

// Rules that somebody flushes between the first rule of a start and the last are put back by the same up.
func TestRulesFlushedDuringAStart(t *testing.T) {
	h := newHost(t)
	before := h.dump()
	h.sh(flushAtStart)
	r := h.run("boxrun", "up", "web")
	if r.Code != 0 || !strings.Contains(r.Stderr, "web: mended: chain ") {
		t.Errorf("up: %v\nwant exit code 0, and what was mended", r)
	}
	h.page()
	if got := h.must("boxrun", "status", "web", "--json"); !strings.Contains(got, `"drift": []`) {
		t.Errorf("status says\n%s\nwant no drift", got)
	}
	h.must("boxrun", "down", "web")
	h.sh("rm /usr/local/bin/apptainer")
	h.same(before, stays()...)
}
