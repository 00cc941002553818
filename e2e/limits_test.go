package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"

	"boxrun/launcher/files"
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
	h.sh(`boxrun ps --json | jq -e '.[0].usage.cpu_seconds > 0.01'`)
	if got := h.must("boxrun", "status", "web"); !strings.Contains(got, "\nresources: ") {
		t.Errorf("got:\n%s\nwant the resources in it", got)
	}
	h.showsStats()
	h.collectsStats()
}

// collectsStats has the units of docs/logs.md write what boxes use for node_exporter.
func (h host) collectsStats() {
	h.t.Helper()
	text := h.blockOf("logs.md", "# /etc/systemd/system/boxrun-stats.service")
	for _, unit := range strings.Split(text, "# /etc/systemd/system/")[1:] {
		name, settings, _ := strings.Cut(unit, "\n")
		if err := h.Write(h.t.Context(), "/etc/systemd/system/"+name, 0o644, strings.NewReader(settings)); err != nil {
			h.t.Fatal(err)
		}
	}
	h.sh("mkdir -p /var/lib/prometheus/node-exporter; systemctl daemon-reload; systemctl enable --now boxrun-stats.timer")
	if said := eventually(time.Minute, func() string {
		if r := h.run("grep", "-qx", `boxrun_box_up{box="web"} 1`, "/var/lib/prometheus/node-exporter/boxrun.prom"); r.Code != 0 {
			return r.String()
		}
		return ""
	}); said != "" {
		h.t.Errorf("the timer of the page writes no file: %s\n%s", said, h.sh("systemctl status 'boxrun-stats.*' || true"))
	}
	h.sh("systemctl disable --now boxrun-stats.timer; systemctl start boxrun-stats.service")
	h.gives("boxrun.prom\n", "ls", "-A", "/var/lib/prometheus/node-exporter")
}

// showsStats reads what a box uses in every form.
func (h host) showsStats() {
	h.sh(`boxrun stats --json | jq -e '.[0] | .name == "web" and .cgroup and .cpu_seconds > 0.01 and .network_sent_bytes > 0'`)
	before := h.must("boxrun", "stats", "--json", "web")
	h.must("boxrun", "exec", "web", "--", "ping", "-c", "1", "-s", "1400", "-W", "2", "10.22.0.1")
	h.sh("printf %s " + files.Quote(before) + ` | jq -e --argjson now "$(boxrun stats --json web)" '$now[0].network_sent_bytes - .[0].network_sent_bytes > 1400'`)
	h.tells([]string{"# TYPE boxrun_box_cpu_seconds_total counter\n", `boxrun_box_up{box="web"} 1`}, "boxrun", "stats", "--format", "prometheus")
	h.tells([]string{"NAME", "CPU%", "web  "}, "boxrun", "stats", "--no-stream")
	r := h.run("boxrun", "stats", "--no-stream")
	counted := h.run("sh", "-c", "boxrun stats --json | jq -e '.[0] | .memory_bytes and .tasks and .disk_read_bytes != null'").Code == 0
	if noted := strings.Contains(r.Stderr, "boxrun: web: no "); noted == counted || noted && !strings.Contains(r.Stderr, "this host") {
		h.t.Errorf("everything is counted: %v; stats said %q", counted, r.Stderr)
	}
	h.fails(3, []string{`named "nosuch"`}, "boxrun", "stats", "nosuch")
	h.fails(2, []string{"must be table, json or prometheus"}, "boxrun", "stats", "--format", "xml")
	term := h.terminal("timeout", "--foreground", "--preserve-status", "-s", "INT", "1.5", "boxrun", "stats")
	live, err := term.Wait(10 * time.Second)
	if err != nil || live.Code != 130 || strings.Count(live.Stdout, "CPU%") != 2 || !strings.Contains(live.Stdout, "\x1b[2A") {
		h.t.Errorf("stats on a terminal: %v %v, want two tables, the second over the first", live, err)
	}
	h.sh(`cd /run/boxrun/boxes; for i in $(seq 19); do jq ".state.name = \"w$i\"" web.json > w$i.json; done`)
	h.sh(`boxrun stats --json | jq -e 'length == 20'`)
	h.t.Log(h.run("bash", "-c", "time boxrun stats --json >/dev/null; time boxrun version").Stderr)
	h.sh("rm /run/boxrun/boxes/w[0-9]*.json")
}
