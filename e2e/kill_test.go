package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"boxrun/e2e/testhost"
)

// killPoints gives the moments at which boxrun is killed, spread over how long it takes: ten, or a sample of that size.
func killPoints(took time.Duration, sample int) []time.Duration {
	n := sample
	if soak() {
		n = 10
	}
	points := make([]time.Duration, n)
	for i := range points {
		points[i] = took * time.Duration(2*i+1) / time.Duration(2*n)
	}
	return points
}

// killed runs boxrun and kills it, and nothing else, after that long. It may have ended before.
func (h host) killed(after time.Duration, args ...string) {
	h.t.Helper()
	seconds := fmt.Sprintf("%.3f", after.Seconds())
	h.run(append([]string{"timeout", "--foreground", "-s", "KILL", seconds, "boxrun"}, args...)...)
}

// timed gives how long a boxrun that succeeds takes.
func (h host) timed(args ...string) time.Duration {
	h.t.Helper()
	start := time.Now()
	h.must(append([]string{"boxrun"}, args...)...)
	return time.Since(start)
}

// usedHost boots a host on which web was up once, and gives how long its up and down take and how it is without it.
func usedHost(t *testing.T) (h host, up, down time.Duration, clean testhost.Dump) {
	h = newHost(t)
	h.must("boxrun", "up", "web")
	h.must("boxrun", "down", "web")
	up, down = h.timed("up", "web"), h.timed("down", "web")
	return h, up, down, h.dump()
}

// settled are what an orphan of a killed boxrun may still do: finish its start. down has to see to it, so this waits, and
// looks after.
const settled = time.Second

// TestFaults kills boxrun at some moments as well, and TestKilledAtEachCall at calls: a sample of one is left here.
func TestKilledUp(t *testing.T) {
	h, up, _, clean := usedHost(t)
	for _, after := range killPoints(up, 1) {
		t.Run(fmt.Sprintf("then down, %v of %v", after, up), func(t *testing.T) {
			h := h.in(t)
			h.killed(after, "up", "web")
			h.must("boxrun", "down", "web")
			time.Sleep(settled)
			h.same(clean, `^/run/boxrun/locks/`)
		})
		t.Run(fmt.Sprintf("then up, %v of %v", after, up), func(t *testing.T) {
			h := h.in(t)
			h.killed(after, "up", "web")
			h.must("boxrun", "up", "web")
			h.page()
			h.must("boxrun", "down", "web")
			time.Sleep(settled)
			h.same(clean, `^/run/boxrun/locks/`)
		})
	}
}

// Where the start has been cut short everybody is told so, and that somebody is at work before. up and down clear it away.
func TestKilledWhileItStarts(t *testing.T) {
	h := newHost(t)
	h.must("boxrun", "up", "hello")
	h.sh(`boxrun up web & up=$!
until grep -qs '"phase": "starting"' /run/boxrun/boxes/web.json; do kill -0 $up; sleep 0.01; done
ps='runuser -u alice -- boxrun ps --json'
kill -STOP $up; $ps | jq -e '.[1].state == "starting"'
kill -KILL $up; wait $up || true; $ps | jq -e '.[1].state == "crashed"'`)
	if got := h.run("boxrun", "doctor").Stdout; !strings.Contains(got, "crashed: web") {
		t.Errorf("doctor says\n%s\nwant web crashed", got)
	}
	h.must("boxrun", "down", "web")
	h.gives("hello\n", "boxrun", "ps", "-q")
}

func TestKilledDown(t *testing.T) {
	h, _, down, clean := usedHost(t)
	for _, after := range killPoints(down, 1) {
		t.Run(fmt.Sprintf("then down, %v of %v", after, down), func(t *testing.T) {
			h := h.in(t)
			h.must("boxrun", "up", "web")
			h.killed(after, "down", "web")
			h.must("boxrun", "down", "web")
			h.same(clean, `^/run/boxrun/locks/`)
		})
		t.Run(fmt.Sprintf("then up, %v of %v", after, down), func(t *testing.T) {
			h := h.in(t)
			h.must("boxrun", "up", "web")
			h.killed(after, "down", "web")
			h.must("boxrun", "up", "web")
			h.page()
			h.must("boxrun", "down", "web")
			h.same(clean, `^/run/boxrun/locks/`)
		})
	}
}

// Ctrl-C at any moment undoes what was begun.
func TestInterruptedUp(t *testing.T) {
	h, up, _, clean := usedHost(t)
	for _, after := range killPoints(up, 3) {
		t.Run(fmt.Sprintf("%v of %v", after, up), func(t *testing.T) {
			h := h.in(t)
			r := h.run("timeout", "--foreground", "--preserve-status", "-s", "INT", fmt.Sprintf("%.3f", after.Seconds()), "boxrun", "up", "web")
			if r.Code == 0 {
				h.must("boxrun", "down", "web") // it was faster this time
			}
			if diff := clean.Diff(h.dump(), `^/run/boxrun/locks/`); diff != "" {
				t.Errorf("interrupted: %v\nit left:\n%s", r, diff)
			}
		})
	}
}

// Two at once wait for each other, and the second finds the first one's work.
func TestTwoUpsAtOnce(t *testing.T) {
	h := newHost(t)
	before := h.dump()
	h.sh("boxrun up web & first=$!; boxrun up web; wait $first")
	h.page()
	h.sh("boxrun up hello & boxrun down web; wait $!")
	h.sh("boxrun down hello & first=$!; boxrun down hello; wait $first")
	h.same(before, stays()...)
}
