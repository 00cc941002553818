package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
)

// A call is a system call by which a verb changes a file of the host: the nth of the name with the path.
type call struct {
	verb, name, path string
	nth              int
}

func (c call) String() string {
	return fmt.Sprintf("%s, call %d of %s %s", c.verb, c.nth, c.name, c.path)
}

// changing are the calls that change a file, as strace prints them.
var changing = regexp.MustCompile(`^[0-9]+ +(mkdirat|openat|renameat|unlinkat|fchmodat)\(AT_FDCWD, "((?:/run|/var/lib|/etc|/proc/sys)/[^"]*)"(.*)`)

// calls runs a verb and returns its changing calls. Left out are files with a name by chance.
func (h host) calls(verb string) []call {
	h.t.Helper()
	h.must("strace", "-f", "-o", "/root/calls", "-s", "200", "-e", "signal=none", "-e", "trace=mkdirat,openat,renameat,unlinkat,fchmodat", "boxrun", verb, "web")
	counts := map[string]int{}
	var found []call
	for line := range strings.Lines(h.sh("cat /root/calls")) {
		m := changing.FindStringSubmatch(line)
		reads := m != nil && m[1] == "openat" && !strings.Contains(m[3], "O_WRONLY") && !strings.Contains(m[3], "O_RDWR")
		if m == nil || reads || strings.Contains(m[3], " = -1 ") || strings.Contains(m[2], "tables.") {
			continue
		}
		counts[m[1]+m[2]]++
		found = append(found, call{verb, m[1], m[2], counts[m[1]+m[2]]})
	}
	return found
}

// killedAt runs a verb that is killed at a call, and reports whether it came to that: strace counts the calls of each thread by
// itself. The box is up before a down.
func (h host) killedAt(c call) bool {
	h.t.Helper()
	if c.verb == "down" {
		h.must("boxrun", "up", "web")
	}
	r := h.run("strace", "-f", "-o", "/root/calls", "-P", c.path, "-e", "signal=none", "-e", "trace="+c.name,
		"-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", c.name, c.nth), "boxrun", c.verb, "web")
	return r.Code == 137 // strace ends as the verb did
}

// A verb that is killed at any call that changes a file of the host leaves nothing that the next up or down does not put right.
func TestKilledAtEachCall(t *testing.T) {
	h := newHost(t)
	h.profile("web", "image = \"builtin:hello\"\n[network]\nports = [\"80\"]\n")
	h.must("boxrun", "up", "web")
	h.must("boxrun", "down", "web")
	clean := h.dump()
	all := append(h.calls("up"), h.calls("down")...)
	if len(all) < 60 {
		t.Fatalf("up and down change %d files, too few to be all: %v", len(all), all)
	}
	stride, tried, killed := 11, 0, 0
	if soak() {
		stride = 1
	}
	for i := 0; i < len(all); i += stride {
		tried++
		if h.killedAt(all[i]) {
			killed++
		}
		if tried%3 == 0 {
			h.must("boxrun", "up", "web")
			h.must("curl", "-sS", "-m", "5", "-o", "/dev/null", "http://127.0.0.1/")
		}
		h.must("boxrun", "down", "web")
		time.Sleep(settled)
		if diff := clean.Diff(h.dump(), left()...); diff != "" {
			t.Fatalf("killed in %v, then taken down: the host changed:\n%s", all[i], diff)
		}
	}
	t.Logf("killed at %d of %d calls, of %d in all", killed, tried, len(all))
	if killed < tried/3 {
		t.Errorf("only %d of %d verbs were killed", killed, tried)
	}
}
