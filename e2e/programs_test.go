package e2e

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// What a command starts, lists and dials is counted by strace, as the kernel saw it. Apptainer and the box are no children
// of boxrun where systemd starts them, and so are not counted.
func TestProgramsStarted(t *testing.T) {
	h := newHost(t)
	h.profile("counted", "image = \"builtin:hello\"\n[network]\nports = [\"8080:80\"]\n")
	for _, c := range []struct {
		name                   string
		argv                   []string
		programs, dumps, dials int
	}{
		{"first up", []string{"boxrun", "up", "counted"}, 2, 52, 4},
		{"up of a box that is up", []string{"boxrun", "up", "counted"}, 0, 23, 2},
		{"ps", []string{"boxrun", "ps"}, 0, 15, 1},
		{"status", []string{"boxrun", "status", "counted"}, 0, 19, 2},
		{"repair", []string{"boxrun", "repair"}, 0, 28, 2},
		{"down", []string{"boxrun", "down", "counted"}, 0, 6, 3},
	} {
		got := h.counted(c.argv...)
		if got.start != (c.name == "first up") || len(got.before) > 0 {
			t.Errorf("%s: starts a box: %v; before that:\n%s", c.name, got.start, strings.Join(got.before, "\n"))
		}
		t.Logf("%s: %d programs, %d dumps, %d dials", c.name, len(got.programs), len(got.dumps), len(got.dials))
		for _, kind := range []struct {
			name string
			got  []string
			most int
		}{{"programs", got.programs, c.programs}, {"dumps", got.dumps, c.dumps}, {"dials", got.dials, c.dials}} {
			if len(kind.got) > kind.most {
				t.Errorf("%s: %d %s, want at most %d:\n%s", c.name, len(kind.got), kind.name, kind.most, strings.Join(kind.got, "\n"))
			}
		}
	}
	h.keepsMovesQuick()
	h.readsOthersOnce()
	h.asksNFTOnce()
}

// Where others have native rules of nftables, the first up asks nft for them, and no verb asks again until others change them.
func (h host) asksNFTOnce() {
	h.t.Helper()
	h.profile("other", "image = \"builtin:hello\"\n[network]\nports = [\"8081:80\"]\n")
	h.must("nft", "add table inet site; add chain inet site c { type filter hook input priority 5; }")
	for _, c := range []struct {
		line  string
		asked int
	}{
		{"up counted", 1}, {"up other", 0}, {"up counted", 0}, {"status other", 0}, {"down other", 0}, {"repair", 0}, {"ps", 0},
		{"after nft add rule inet site c tcp dport 7 drop", 1}, {"status counted", 0}, {"down counted", 0},
	} {
		if script, others := strings.CutPrefix(c.line, "after "); others {
			h.sh(script)
			c.line = "ps"
		}
		asked := 0
		for _, program := range h.counted(append([]string{"boxrun"}, strings.Fields(c.line)...)...).programs {
			if strings.Contains(program, `"nft"`) {
				asked++
			}
		}
		if asked != c.asked {
			h.t.Errorf("%s: nft was asked %d times, want %d", c.line, asked, c.asked)
		}
	}
	h.must("nft", "delete", "table", "inet", "site")
}

// Where a box starts or stops, boxrun keeps the kernel quick at moving processes between cgroups, and stays in its own.
func (h host) keepsMovesQuick() {
	h.t.Helper()
	for _, c := range []struct {
		verb  string
		moves bool
	}{{"up", true}, {"up", false}, {"down", true}} {
		h.must("strace", "-f", "-qq", "-y", "-e", "trace=write", "-e", "signal=none", "-o", "/root/strace", "boxrun", c.verb, "counted")
		var own, others int
		for line := range strings.Lines(h.must("cat", "/root/strace")) {
			switch {
			case !strings.Contains(line, "cgroup.procs>"):
			case strings.Contains(line, `/session/cgroup.procs>, "0", 1`):
				own++
			default:
				others++
			}
		}
		if own > 5 != c.moves || others > 0 {
			h.t.Errorf("%s moves itself %d times into its own cgroup, and into others %d times", c.verb, own, others)
		}
		h.t.Logf("%s: %d moves", c.verb, own)
	}
}

// An up reads the record of each other box once, as long as no other boxrun writes the record.
func (h host) readsOthersOnce() {
	h.t.Helper()
	const others = "crowd@1 crowd@2 crowd@3 crowd@4 crowd@5 crowd@6"
	h.profile("crowd", "image = \"builtin:hello\"\n")
	h.must(append([]string{"boxrun", "up"}, strings.Fields(others)...)...)
	h.must("strace", "-f", "-qq", "-e", "trace=openat", "-e", "signal=none", "-o", "/root/strace", "boxrun", "up", "counted")
	read := h.sh(`grep -oE '"/run/boxrun/boxes/crowd-[0-9]+\.json"' /root/strace | sort | uniq -c | awk '{ print $1 }' | uniq -c`)
	if got := strings.Join(strings.Fields(read), " "); got != "6 1" {
		h.t.Errorf("so many records of others were read so often: %q, want \"6 1\"", got)
	}
	h.must("strace", "-f", "-qq", "-e", "trace=openat", "-e", "signal=none", "-o", "/root/strace", "boxrun", "ps")
	asked := strings.Count(h.must("cat", "/root/strace"), "/random/boot_id")
	if asked > 5 { // of the boxes once, beside that for each family of rules kept
		h.t.Errorf("with 7 boxes ps asks %d times for the id of the boot", asked)
	}
	h.t.Logf("ps asks %d times for the id of the boot", asked)
	h.must("boxrun", "down", "--all")
}

// asked is what a command and its children asked for: programs started, lists of links, addresses, routes and neighbours,
// and sockets of services.
type asked struct {
	programs, dumps, dials []string
	start                  bool     // systemd was asked to start Apptainer
	before                 []string // programs before that
}

// A dump is a message of rtnetlink, whose types strace knows by number on a socket that it did not see opened.
var (
	executed = regexp.MustCompile(`execve\("[^"]*", \[(.*?)\], 0x`) // perhaps unfinished, as another thread is told of
	dumped   = regexp.MustCompile(`send(?:to|msg)\(.*nlmsg_type=(RTM_[A-Z]+|SOCK_DIAG_BY_FAMILY|0x[0-9a-f]{2})\b[^,]*, nlmsg_flags=NLM_F_REQUEST\|(?:NLM_F_DUMP|0x300)`)
	dialled  = regexp.MustCompile(`connect\(\d+, \{sa_family=AF_(?:UNIX|INET6?), (.*?)\}, \d+\)`)
)

// pageLook is SOCK_DIAG_BY_FAMILY on such a socket: an up looks again and again whether the page of a hello box is served, as
// often as the machine has it.
const pageLook = "0x14"

// counted runs boxrun on the host, which has to succeed.
func (h host) counted(argv ...string) (got asked) {
	h.t.Helper()
	const file = "/root/strace"
	h.must(append([]string{"strace", "-f", "-qq", "-s", "300", "-e", "trace=execve,connect,sendto,sendmsg,write",
		"-e", "signal=none", "-o", file}, argv...)...)
	for line := range strings.Lines(h.must("cat", file)) {
		if m := executed.FindStringSubmatch(line); m != nil {
			got.programs = append(got.programs, m[1])
		} else if m := dumped.FindStringSubmatch(line); m != nil && m[1] != pageLook {
			got.dumps = append(got.dumps, m[1])
		} else if m := dialled.FindStringSubmatch(line); m != nil {
			got.dials = append(got.dials, m[1])
		} else if strings.Contains(line, "StartTransientUnit") {
			got.start, got.before = true, append(got.before, got.programs[1:]...)
		}
	}
	got.programs = got.programs[1:] // boxrun itself
	return got
}

// A first up that is timed tells what each of those who had a part took, in stretches that fit into the whole.
func TestTiming(t *testing.T) {
	h := newHost(t)
	table := h.must("boxrun", "up", "--timing", "web")
	t.Log("\n" + table)
	for _, who := range []string{"boxrun", "systemd", "Apptainer", "the box's systemd"} {
		if !strings.Contains(table, "  "+who+"  ") {
			t.Errorf("nothing of %s in:\n%s", who, table)
		}
	}
	var whole, sum float64
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 5 || f[4] != "boxrun" {
			continue
		}
		took, err := strconv.ParseFloat(f[2], 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if strings.Contains(line, "the whole up") {
			whole = took
		} else {
			sum += took
		}
	}
	if whole == 0 || sum < 0.97*whole || sum > 1.03*whole {
		t.Errorf("boxrun's stretches are %.1f ms, the whole %.1f ms:\n%s", sum, whole, table)
	}
	if again := h.must("boxrun", "up", "--timing", "web"); !strings.Contains(again, "looked for what drifted") {
		t.Errorf("of a box that is up:\n%s", again)
	}
}
