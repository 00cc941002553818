package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A fighter is a program that undoes all the time what the watch puts back.
type fighter struct {
	name   string
	script string // what the program does all the time
	once   string // what it does, once
	what   string // status says it
	by     string // the program, as status names it: without its origin where it may have ended when the watch looks
	rarely bool   // a repair gains nothing, and is rare soon
	sample bool   // tried on each change of boxrun
}

func fighters() []fighter {
	const flush = "iptables -t nat -F BOXRUN-DN-web"
	return []fighter{
		{name: "an agent that flushes a chain each second", script: "while sleep 1; do " + flush + "; done", once: flush,
			what: "chain nat/BOXRUN-DN-web lacks the rule", by: "after a change by iptables, run by bash of site-agent.service", sample: true},
		{name: "an agent that resets forwarding at once", script: "while sleep 0.02; do [ $(cat /proc/sys/net/ipv4/ip_forward) = 0 ] || sysctl -qw net.ipv4.ip_forward=0; done",
			once: "sysctl -qw net.ipv4.ip_forward=0", what: "net.ipv4.ip_forward is 0", by: "after a change by sysctl", rarely: true, sample: true},
		{name: "a manager that wants to be first", script: "while sleep 0.02; do iptables -S FORWARD | grep -m 1 -e -A | grep -q SITE || { iptables -D FORWARD -j SITE; iptables -I FORWARD -j SITE; }; done",
			once: "iptables -D FORWARD -j SITE || true; iptables -I FORWARD -j SITE", what: "chain filter/FORWARD has other rules before", by: "after a change by iptables, run by bash of site-agent.service", rarely: true},
		{name: "a job that takes the bridge's address each second", script: "while sleep 1; do ip addr flush dev sbr0; done", once: "ip addr flush dev sbr0",
			what: "sbr0 lacks the address 10.22.0.1/16", by: "after a change by ip, run by bash of site-agent.service"},
	}
}

const (
	watchLog = "journalctl -q -o cat -u boxrun-watch@host"
	watchCPU = `awk '/^usage_usec/ { print $2 }' $(find /sys/fs/cgroup -path '*boxrun-watch@host.service/cpu.stat' | head -n 1)`
)

// Against a program that undoes each repair the watch works ever more rarely, and says so once; meanwhile another box heals at once,
// and so does the box itself when the program has ended.
func TestWhatOthersUndoAgainAndAgain(t *testing.T) {
	h := newHost(t)
	h.sh("iptables -N SITE; " + quickLooks)
	h.profile("other", "image = \"builtin:hello\"\n[network]\nports = [\"8080:80\"]\n")
	h.must("boxrun", "enable", "web")
	h.must("boxrun", "up", "web", "other")
	h.awaitUnit("boxrun-watch@host.service", "active")
	for _, f := range fighters() {
		t.Run(f.name, func(t *testing.T) {
			if !f.sample && !soak() {
				t.Skip("at full length only: make soak")
			}
			h.in(t).isFought(f)
		})
	}
	h.sh("boxrun down --all; test ! -e /run/boxrun/boxes")
}

func (h host) isFought(f fighter) {
	h.t.Helper()
	h.healsOnce(f.once) // which is no fight
	h.sh("systemd-run -q --unit=site-agent bash -c '" + f.script + "'")
	defer h.run("systemctl", "stop", "site-agent")
	if said := eventually(time.Minute, func() string {
		if got := h.must("boxrun", "status", "web"); !containsAll(got, []string{"undone:", f.what, f.by}) {
			return got
		}
		return ""
	}); said != "" {
		h.t.Fatalf("status says\n%s\nwant %q undone, %s\n%s", said, f.what, f.by, h.sh(watchLog+" | tail -n 30; cat /run/boxrun/boxes/web/undone.json"))
	}
	h.sh("sleep 12") // in which pauses grow
	h.costsLittle(f)
	h.sh("systemctl restart boxrun-watch@host")
	h.awaitUnit("boxrun-watch@host.service", "active")
	h.otherHeals()
	h.sh("boxrun doctor web | grep -F 'undone' | grep -F " + quoted(f.what) + " > /run/said || true; grep -F WARN /run/said")
	if got := h.sh(watchLog + " | grep -F 'undone 5 times' | grep -cF " + quoted(f.what)); got != "1\n" {
		h.t.Errorf("the journal tells of it %s times:\n%s", got, h.sh(watchLog))
	}
	h.must("systemctl", "stop", "site-agent")
	if said := eventually(70*time.Second, func() string {
		if got := h.must("boxrun", "status", "web"); !strings.Contains(got, "in place") {
			return got
		}
		return ""
	}); said != "" {
		h.t.Errorf("long after the end of the program status says\n%s", said)
	}
	h.sh("sleep 5")
	h.healsOnce(f.once)
	h.isIdle()
}

// healsOnce wants what a script undoes to be put back in the time promised.
func (h host) healsOnce(script string) {
	h.t.Helper()
	h.isIdle()
	h.sh(script)
	if said := eventually(promised(2*time.Second), func() string {
		if got := h.must("boxrun", "status", "web"); !strings.Contains(got, "in place") {
			return got
		}
		return ""
	}); said != "" {
		h.t.Errorf("long after %q status says\n%s", script, said)
	}
	h.page()
}

func quoted(text string) string { return "'" + text + "'" }

// costsLittle wants few repairs in half a minute, little time of a processor and no words in the journal; and a client served
// between, where repairs hold for a while.
func (h host) costsLittle(f fighter) {
	h.t.Helper()
	times := func() int {
		n, err := strconv.Atoi(strings.TrimSpace(h.sh("jq '[.state.things[].times] | max' /run/boxrun/boxes/web/undone.json")))
		if err != nil {
			h.t.Fatal(err)
		}
		return n
	}
	cpu := func() int {
		n, err := strconv.Atoi(strings.TrimSpace(h.sh(watchCPU)))
		if err != nil {
			h.t.Fatal(err)
		}
		return n
	}
	const span = 30 * time.Second
	repairs, used, lines := times(), cpu(), h.sh(watchLog+" | wc -l")
	served, asked := 0, 0
	for end := time.Now().Add(span); time.Now().Before(end); asked++ {
		r, err := h.Client(h.t.Context(), "curl", "-sSf", "-o", "/dev/null", "-m", "0.3", webURL)
		if err != nil {
			h.t.Fatal(err)
		}
		if r.Code == 0 {
			served++
		}
		time.Sleep(100 * time.Millisecond)
	}
	repairs, used = times()-repairs, cpu()-used
	h.t.Logf("in %v %d repairs, %d ms of a processor, %d of %d clients served", span, repairs, used/1000, served, asked)
	most := 12
	if f.rarely {
		most = 4
	}
	if repairs == 0 && !f.rarely || repairs > most {
		h.t.Errorf("%d repairs in %v, want at most %d", repairs, span, most)
	}
	if now := h.sh(watchLog + " | wc -l"); now != lines {
		h.t.Errorf("the journal has grown from %sto %s lines", lines, now)
	}
}

// otherHeals wants another box to heal at once.
func (h host) otherHeals() {
	h.t.Helper()
	const rule = "iptables -t nat -S BOXRUN-DN-other | grep -q DNAT"
	h.sh("iptables -t nat -F BOXRUN-DN-other")
	if said := eventually(promised(2*time.Second), func() string {
		if h.run("sh", "-c", rule).Code != 0 {
			return fmt.Sprint("the rule is missing\n", h.sh(watchLog+" | tail"))
		}
		return ""
	}); said != "" {
		h.t.Error(said)
	}
}
