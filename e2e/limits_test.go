package e2e

import (
	"slices"
	"strings"
	"testing"
)

// Whether a test host has the controllers of cgroups is up to the machine: with them a box is held to its limits, without
// them it is refused before anything is changed. The limits themselves are proven in the virtual machine.
func TestLimits(t *testing.T) {
	h := newHost(t)
	h.profile("small", `
image = "builtin:hello"
[resources]
memory = "64M"
cpus   = 0.5
pids   = 50
`)
	have := strings.Fields(h.must("cat", "/sys/fs/cgroup/cgroup.controllers"))
	for _, controller := range []string{"memory", "cpu", "pids"} {
		if !slices.Contains(have, controller) {
			before := h.dump()
			h.fails(1, []string{"there is no " + controller + " controller here", "boxrun: hint: "}, "boxrun", "up", "small")
			h.same(before)
			return
		}
	}
	h.must("boxrun", "up", "small")
	cgroup := strings.TrimSpace(h.must("jq", "-r", ".state.cgroup", "/run/boxrun/boxes/small.json"))
	got := h.must("grep", "-H", "", cgroup+"/memory.max", cgroup+"/cpu.max", cgroup+"/pids.max")
	want := strings.ReplaceAll("CGROUP/memory.max:67108864\nCGROUP/cpu.max:50000 100000\nCGROUP/pids.max:50\n", "CGROUP", cgroup)
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// What a box uses is counted for all of it where the host counts.
func TestUsageOfTheWholeBox(t *testing.T) {
	h := newHost(t)
	h.must("boxrun", "up", "web")
	inside := h.must("jq", "-e", ".state.cgroup", "/run/boxrun/boxes/web.json")
	if !strings.HasSuffix(inside, ".scope\"\n") {
		t.Errorf("the cgroup that is counted is %s, want the whole scope", inside)
	}
	h.sh(`boxrun ps --json | jq -e '.[0].usage.cpu > 10000000'`)
	if got := h.must("boxrun", "status", "web"); !strings.Contains(got, "\nresources: ") {
		t.Errorf("got:\n%s\nwant the resources in it", got)
	}
}
