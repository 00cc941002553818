package e2e

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// openWays tries the 20 ways of e2e/cmd/escape from a box that is up, by exec and as a unit of the box, and gives the
// ways that are open.
func (h host) openWays(box string) []string {
	h.t.Helper()
	if err := h.Copy(h.t.Context(), filepath.Join(filepath.Dir(h.probe), "escape"), "/usr/local/bin/escape"); err != nil {
		h.t.Fatal(err)
	}
	h.sh(`systemctl is-active -q neighbour || systemd-run -q --unit=neighbour sleep 600
		[ -e /run/segment ] || ipcmk -M 4096 > /run/segment
		boxrun cp /usr/local/bin/escape ` + box + `:/usr/local/bin/escape`)
	key := strings.TrimSpace(h.sh("awk 'NR == 2 { print $1 }' /proc/sysvipc/shm"))
	command := []string{"escape", "system.slice/neighbour.service", key}
	ways := slices.Concat([]string{"boxrun", "exec", box, "--"}, command)
	byExec := h.must(ways...)
	unit := slices.Concat([]string{"boxrun", "exec", box, "--", "systemd-run", "-q", "--pipe", "--wait"}, command)
	if asUnit := h.must(unit...); openOf(asUnit) != openOf(byExec) {
		h.t.Errorf("%s: a command from outside finds\n%s\na unit of the box\n%s", box, byExec, asUnit)
	}
	if lines := strings.Count(byExec, "\n"); lines != 20 {
		h.t.Errorf("%s: %d ways were tried, want 20:\n%s", box, lines, byExec)
	}
	h.t.Logf("%s:\n%s", box, byExec)
	return strings.Fields(openOf(byExec))
}

// openOf returns the names of the open ways in what escape prints.
func openOf(printed string) string {
	var open []string
	for line := range strings.Lines(printed) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "open "); ok {
			open = append(open, name)
		}
	}
	return strings.Join(open, " ")
}

// secured returns a profile of the web image at a level of [security].
func secured(level string, more ...string) string {
	return "image = \"/srv/web\"\n[security]\nlevel = \"" + level + "\"\n" + strings.Join(more, "\n") + "\n"
}

// What root in a box can do to the host, level by level: nginx runs at each of them, and no unit fails.
func TestWaysFromABoxToTheHost(t *testing.T) {
	h := newHost(t)
	for level, want := range map[string]string{
		"default": "new-sysfs proc-sys-again priority",
		"strict":  "",
		"host": "clock sysctl sys new-sysfs proc-sys-again disk kmsg cgroups-seen cgroups-written kernel-log handle bpf " +
			"perf sysv priority",
	} {
		h.profile(level, secured(level))
		h.must("boxrun", "up", level)
		if open := h.openWays(level); !slices.Equal(open, strings.Fields(want)) {
			t.Errorf("%s: open are %q, want %q", level, open, strings.Fields(want))
		}
		state := h.must("boxrun", "exec", level, "--", "systemctl", "is-system-running")
		if failed := h.must("boxrun", "exec", level, "--", "systemctl", "--failed", "-q"); failed != "" || state != "running\n" {
			t.Errorf("%s: the box is %q, with failed units:\n%s", level, state, failed)
		}
		if got := h.must("boxrun", "status", level); !strings.Contains(got, "security:    "+level+"\n") {
			t.Errorf("%s: status says\n%s", level, got)
		}
		h.sh("boxrun status --json " + level + " | jq -e '.security.level == \"" + level + "\"'")
		h.sh("curl -sS -m 5 http://$(jq -r .state.addr /run/boxrun/boxes/" + level + ".json)/ | grep -q 'nginx in a box'")
		h.must("boxrun", "down", level)
	}
}
