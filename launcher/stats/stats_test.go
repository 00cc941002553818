package stats

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"boxrun/launcher/testkit"
)

// dirOf returns a directory with files.
func dirOf(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func wantJSON(t *testing.T, s Stats, want string) {
	t.Helper()
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	testkit.WantText(t, string(text), `{"name":"","state":"","restarts":0,`+want+`}`)
}

func TestVersion2(t *testing.T) {
	var s Stats
	s.readCgroup(cgroups{v2: dirOf(t, map[string]string{
		"cpu.stat":       "usage_usec 1500000\nuser_usec 1000000\n",
		"memory.current": "1048576\n", "memory.max": "max\n", "pids.current": "7\n", "pids.max": "100\n",
		"io.stat": "8:0 rbytes=100 wbytes=20 rios=3\n8:16 rbytes=1 wbytes=2 rios=1\n7:0 \n",
	})})
	wantJSON(t, s, `"cgroup":true,"cpu_seconds":1.5,"memory_bytes":1048576,"tasks":7,"tasks_limit":100,"disk_read_bytes":101,"disk_written_bytes":22`)
}

// A hybrid host has the cgroup of version 2 without controllers: numbers come from both.
func TestVersion1(t *testing.T) {
	root := dirOf(t, map[string]string{
		"memory/box/memory.usage_in_bytes": "4096\n", "memory/box/memory.limit_in_bytes": "9223372036854771712\n",
		"cpuacct/box/cpuacct.usage": "2500000000\n", "pids/box/pids.current": "3\n", "pids/box/pids.max": "max\n",
		"blkio/box/blkio.throttle.io_service_bytes": "8:0 Read 10\n8:0 Write 5\n8:16 Read 1\nTotal 16\n",
	})
	var s Stats
	own := "12:memory:/box/init.scope\n4:cpu,cpuacct:/box\n3:pids:/box\n2:blkio:/box\n1:name=systemd:/box\n0::/\n"
	s.readCgroup(cgroups{v1: v1Dirs(root, own, "12:memory:/\n4:cpu,cpuacct:/other\n")})
	const want = `"cgroup":true,"cpu_seconds":2.5,"memory_bytes":4096,"tasks":3,"disk_read_bytes":11,"disk_written_bytes":5`
	wantJSON(t, s, want)
	s = Stats{}
	s.readCgroup(cgroups{v2: dirOf(t, nil), v1: v1Dirs(root, own, "")})
	wantJSON(t, s, want)
	s = Stats{}
	s.readCgroup(cgroups{v1: v1Dirs(root, "12:memory:/box\n", "12:memory:/box\n")})
	wantJSON(t, s, `"cgroup":false`)
}

func of(name string, cpu float64, memory uint64) Stats {
	return Stats{Name: name, State: "running", Cgroup: true, Started: time.Unix(1000, 5e8), CPUSeconds: &cpu,
		MemoryBytes: &memory, NetworkSentBytes: new(uint64(1 << 40)), DiskReadBytes: new(uint64(0))}
}

// Prometheus' own parser and linter take the text.
func TestPrometheus(t *testing.T) {
	text := strings.Join(Prometheus([]Stats{of("web", 1.25, 1<<31), {Name: "db", State: "crashed"}}), "\n") + "\n"
	for _, line := range []string{
		`boxrun_box_up{box="web"} 1`, `boxrun_box_up{box="db"} 0`, `boxrun_box_cpu_seconds_total{box="web"} 1.25`,
		`boxrun_box_memory_bytes{box="web"} 2147483648`, `boxrun_box_start_time_seconds{box="web"} 1000.5`,
		`# TYPE boxrun_box_network_transmit_bytes_total counter`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no line %q in\n%s", line, text)
		}
	}
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("promlint: %v %v", problems, err)
	}
	testkit.WantText(t, strings.Join(Prometheus(nil), ""), "")
}

func TestTable(t *testing.T) {
	before := Sample{time.Unix(10, 0), []Stats{of("web", 1, 0), of("db", 1, 0)}}
	old := of("db", 9, 512)
	old.Started = time.Unix(9, 0)
	now := Sample{time.Unix(12, 0), []Stats{of("web", 4, 1536<<10), old, {Name: "none", State: "running"}, {Name: "dead", State: "crashed"}}}
	var got strings.Builder
	for _, row := range Table(before, now)[1:] {
		fmt.Fprintln(&got, strings.Join(row, " "))
	}
	testkit.WantText(t, got.String(), `web 150.0% 1.5M - - - 1.0T 0B -
db - 512B - - - 1.0T 0B -
none (no cgroup) - - - - - - - -
dead (crashed) - - - - - - - -
`)
}

func TestUncounted(t *testing.T) {
	all, none := of("all", 1, 2), Stats{State: "running", Cgroup: true, MemoryBytes: new(uint64(1)), DiskReadBytes: new(uint64(1))}
	all.Tasks = new(uint64(3))
	for want, boxes := range map[string][]Stats{
		"": {all, {Name: "down", State: "crashed"}, {Name: "bare", State: "running"}},
		"a, b: no TASKS: the cgroup lacks the controllers pids of this host, HAVE":                                 {named("a", none), all, named("b", none)},
		"c: no MEM, TASKS, READ and WRITTEN: the cgroup lacks the controllers memory, pids, io of this host, HAVE": {{Name: "c", State: "running", Cgroup: true}},
	} {
		testkit.WantText(t, Sample{Boxes: boxes}.uncounted("HAVE"), want)
	}
}

func named(name string, s Stats) Stats {
	s.Name = name
	return s
}

func TestScreen(t *testing.T) {
	rows := [][]string{{"NAME", "CPU%", "MEM"}, {"a", "1", "2"}, {"b", "2", "3"}, {"c", "3", "4"}}
	testkit.WantText(t, strings.ReplaceAll(strings.Join(Screen(rows, 10, 4), "\n"), "\x1b[K", "|"), "NAME  CPU%|\na     1|\nand 2 more|")
	if got := len(Screen(rows, 0, 0)); got != 4 {
		t.Errorf("%d lines, want 4", got)
	}
}
