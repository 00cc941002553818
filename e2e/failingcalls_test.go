package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"boxrun/e2e/testhost"
)

// A struckCall is a system call that changes the host, by its name and its number among those of a thread.
type struckCall struct {
	name string
	nth  int
}

// An accident is what strikes a verb at a call: its end, or an error of the kernel's, as strace injects them.
type accident struct {
	name   string
	inject string   // of strace: signal=KILL, error=ENOSPC
	calls  []string // the calls that it may strike
	codes  []int    // how the verb may end
}

// accidents are those that a host may have. An error of write is not among them: Go's runtime wakes its threads by write,
// and has no answer to a failure. TestAFullRun fails writes to files.
func accidents() []accident {
	changing := []string{"mkdirat", "openat", "renameat", "symlinkat", "unlinkat", "fchmod", "fchmodat", "ftruncate", "mount", "umount2"}
	all := append(slices.Clone(changing), "write", "pwrite64", "sendto", "sendmsg", "setns", "clone", "execve")
	codes := []int{0, 1, 4, 6}
	return []accident{
		{"killed", "signal=KILL", all, append(slices.Clone(codes), 137)},
		{"a full disk", "error=ENOSPC", changing, codes},
		{"a read-only disk", "error=EROFS", changing, codes},
		{"too many files", "error=EMFILE", []string{"openat"}, codes},
	}
}

// A verb that accidents strike, after the lines that make the host ready for it.
type struckVerb struct{ before, line string }

func struckVerbs() []struckVerb {
	return []struckVerb{
		{"true", "up one two"},
		{"boxrun up one two", "down one two"},
		{"boxrun up one", "restart one"},
		{"true", "enable one"},
		{"boxrun enable one", "disable one"},
	}
}

// Whichever call it is that boxrun ends at, or that fails, one up or one down of the boxes puts the host right, and what
// fails says so.
func TestAccidentsAtEachCall(t *testing.T) {
	if !soak() {
		t.Skip("hundreds of calls, for make soak: TestKilledAtEachCall has a sample")
	}
	h := newHost(t)
	h.profile("one", "image = \"builtin:hello\"\n[network]\nports = [\"8081:80\"]\nsubnet6 = \"auto\"\n")
	h.profile("two", "image = \"builtin:hello\"\n[network]\nports = [\"8082:80\"]\n[storage]\nroot = \"overlay\"\n")
	h.sh("boxrun enable one; boxrun disable one; boxrun up one two; boxrun down one two")
	clean := h.dump()
	struck := 0
	for _, verb := range struckVerbs() {
		made := h.callsOf(verb)
		for _, a := range accidents() {
			for _, c := range chosen(made, a.calls) {
				struck++
				t.Run(fmt.Sprintf("%s: %s at %s %d", verb.line, a.name, c.name, c.nth), func(t *testing.T) {
					h.in(t).recovers(verb, a, c, struck%2 == 0)
					h.in(t).same(clean, left()...)
				})
			}
		}
	}
	t.Logf("%d accidents", struck)
}

// underStrace runs a verb of boxrun, and what the verb starts, under strace with the options.
func (h host) underStrace(options, line string) testhost.Result {
	h.t.Helper()
	return h.run("bash", "-c", "strace -f -qq -o /root/calls -e signal=none "+options+" boxrun "+line)
}

// callsOf runs a verb once, and returns for each call how many a single thread made at most.
func (h host) callsOf(verb struckVerb) map[string]int {
	h.t.Helper()
	h.sh(verb.before)
	if r := h.underStrace("-e trace="+strings.Join(accidents()[0].calls, ","), verb.line); r.Code != 0 {
		h.t.Fatal(r)
	}
	of := map[string]int{}
	for line := range strings.Lines(h.must("cat", "/root/calls")) {
		thread, rest, _ := strings.Cut(line, " ")
		name, _, isCall := strings.Cut(strings.TrimSpace(rest), "(")
		if isCall {
			of[thread+" "+name]++
		}
	}
	h.sh("boxrun disable one; boxrun down one two")
	most := map[string]int{}
	for key, n := range of {
		_, name, _ := strings.Cut(key, " ")
		most[name] = max(most[name], n)
	}
	return most
}

// chosen returns the calls that were made among those of names.
func chosen(made map[string]int, names []string) []struckCall {
	var all []struckCall
	for _, name := range names {
		for n := range made[name] {
			all = append(all, struckCall{name, n + 1})
		}
	}
	return all
}

// recovers has an accident strike a verb at a call, and puts the host right: by up first if again, and by down.
func (h host) recovers(verb struckVerb, a accident, c struckCall, again bool) {
	h.t.Helper()
	h.sh(verb.before)
	r := h.underStrace(fmt.Sprintf("-e trace=%[1]s -e inject=%[1]s:%[2]s:when=%[3]d", c.name, a.inject, c.nth), verb.line)
	if !slices.Contains(a.codes, r.Code) || strings.Contains(r.Stderr, "goroutine ") {
		h.t.Errorf("%s: %v\nwant an exit code of %v", verb.line, r, a.codes)
	}
	if r.Code != 0 && r.Code != 137 && !strings.Contains(r.Stderr, "boxrun: ") {
		h.t.Errorf("%s: %v\nwant the reason", verb.line, r)
	}
	if again {
		h.must("boxrun", "up", "one", "two")
		h.client("curl", "-sS", "--fail", "-m", "10", "--retry", "5", "--retry-connrefused", "http://192.0.2.1:8081/")
	}
	h.must("boxrun", "disable", "one")
	h.must("boxrun", "down", "one", "two")
}

// Whichever file of an enable it is that a kill or a full disk cuts short, disable takes all back.
func TestEnableCutShort(t *testing.T) {
	h := newHost(t)
	h.profile("one", "image = \"builtin:hello\"\n")
	h.sh("boxrun enable one; boxrun disable one")
	clean := h.dump()
	h.underStrace("-e trace=openat", "enable one")
	written := strings.Fields(h.sh(`sed -n 's/.*"\(\/etc\/systemd\/system\/[^"]*\.new\)", O_WRONLY.*/\1/p' /root/calls | sort -u`))
	h.must("boxrun", "disable", "one")
	if len(written) < 3 {
		t.Fatalf("enable writes %v, want units and the settings of one", written)
	}
	for _, inject := range []string{"signal=KILL", "error=ENOSPC"} {
		for _, file := range written {
			r := h.underStrace(fmt.Sprintf("-P %s -e trace=fchmod -e inject=fchmod:%s:when=1", file, inject), "enable one")
			if r.Code == 0 {
				t.Errorf("enable with %s at %s: %v\nwant it cut short", inject, file, r)
			}
			h.must("boxrun", "disable", "one")
			h.same(clean, left()...)
		}
	}
}
