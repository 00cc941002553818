package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// monkeyTime is how long the monkeys work: as long as a soak says, such as BOXRUN_SOAK=3m, else ten minutes.
func monkeyTime() time.Duration {
	if d, err := time.ParseDuration(os.Getenv("BOXRUN_SOAK")); err == nil {
		return d
	}
	return 10 * time.Minute
}

// monkeyTools are what the scripts of monkeys call: a signal to the init of a box, and one to an Apptainer that starts a
// box. A process that is not there gets none.
const monkeyTools = `
toinit() { p=$(jq -r '.state.init.pid | select(. > 1)' /run/boxrun/boxes/$2.json 2> /dev/null) && [ "$p" ] && kill -$1 $p || true; }
tostart() { p=$(pgrep -f '^/[^ ]*apptainer .*instance start ' | head -n 1) && [ "$p" ] && kill -$1 $p || true; }
`

// monkeyActs are scripts that monkeys run on a host, with a box as $1 and a random number as $2. The scripts reach
// processes of the host alone: a host has a PID namespace of its own.
var monkeyActs = []struct {
	weight int
	script string
}{
	{6, `boxrun up $1`},
	{4, `boxrun down -t 2s $1`},
	{3, `boxrun restart $1`},
	{4, `boxrun exec $1 -- true`},
	{2, `boxrun cp $1:/etc/hosts /srv/out-$2`},
	{2, `boxrun cp /etc/hosts $1:/var/in-$2`},
	{2, `boxrun logs -n 5 $1`},
	{3, `boxrun repair`},
	{2, `boxrun ps`},
	{2, `boxrun status $1`},
	{1, `boxrun diff $1`},
	{1, `boxrun doctor $1`},
	{3, `timeout --foreground -s KILL 0.$2 boxrun up $1`},
	{2, `timeout --foreground -s KILL 0.$2 boxrun down $1`},
	{2, `timeout --foreground -s INT 0.$2 boxrun up $1`},
	{1, `timeout --foreground -s TERM 0.$2 boxrun restart $1`},
	{1, `timeout --foreground -s HUP 0.$2 boxrun repair`},
	{1, `boxrun up $1 & p=$!; sleep 0.$2; kill -STOP $p; sleep 1; kill -CONT $p; wait $p`},
	{2, `tostart KILL`},
	{2, `tostart TERM`},
	{2, `toinit KILL $1`},
	{1, `toinit TERM $1`},
	{1, `toinit SEGV $1`},
	{1, `toinit STOP $1; sleep 1; toinit CONT $1`},
	{1, `iptables -w -F; iptables -w -t nat -F`},
	{1, `iptables -w -t nat -F; iptables -w -t nat -X`},
	{1, `nft flush ruleset`},
	{1, `ip link del sbr0`},
	{1, `systemctl daemon-reexec`},
	{1, `systemctl daemon-reload`},
}

// monkeyActOf returns the script at a place of the weights.
func monkeyActOf(at int) string {
	for _, act := range monkeyActs {
		if at -= act.weight; at < 0 {
			return act.script
		}
	}
	return monkeyActs[0].script
}

// Twenty monkeys do to a few boxes whatever comes to their minds; the next down leaves the host as it was before.
func TestMonkey(t *testing.T) {
	if !soak() {
		t.Skip("ten minutes, in a soak")
	}
	h := newHost(t)
	names := append(h.crowd(5), "web")
	h.must("boxrun", "up", "web", names[0])
	h.must("boxrun", "down", "--all")
	before := h.dump()
	var all sync.WaitGroup
	var acts atomic.Int64
	end := time.Now().Add(monkeyTime())
	for range 20 {
		all.Go(func() {
			for time.Now().Before(end) {
				h.monkey(names[rand.IntN(len(names))])
				acts.Add(1)
			}
		})
	}
	all.Wait()
	t.Logf("%d acts", acts.Load())
	h.sh("rm -f /srv/out-*")
	if r := h.run("boxrun", "down", "--all", "-t", "5s"); r.Code != 0 && r.Code != 6 {
		t.Errorf("down --all: %v", r)
	}
	if up := h.must("boxrun", "ps", "-q"); up != "" {
		t.Errorf("after down --all boxes are up: %s", up)
	}
	h.settled()
	time.Sleep(settled)
	h.same(before, append(left(), `^0 (/sbin/init|/usr/lib/systemd/systemd)`)...) // systemd that re-executed itself
	h.must("boxrun", "up", "web")
	h.page()
	h.must("boxrun", "down", "web")
}

// monkeyPatience is how long an act may take: it waits for those who came before for the same box, and an up as long as its
// [ready] has, where another monkey takes the way to the page.
const monkeyPatience = 6 * time.Minute

// monkey runs a random act. boxrun may fail with the codes of its page alone, and never panics.
func (h host) monkey(box string) {
	total := 0
	for _, act := range monkeyActs {
		total += act.weight
	}
	script := monkeyActOf(rand.IntN(total))
	ctx, cancel := context.WithTimeout(h.t.Context(), monkeyPatience)
	defer cancel()
	began := time.Now()
	r, err := h.Exec(ctx, "bash", "-c", monkeyTools+script, "monkey", box, fmt.Sprint(10+rand.IntN(90)))
	codes := []int{0, 1, 3, 4, 5, 6, 124, 125, 127, 129, 130, 137, 143}
	known := slices.Contains(codes, r.Code)
	if err != nil || !known || strings.Contains(r.Stderr, "panic: ") || strings.Contains(r.Stderr, "goroutine ") {
		h.t.Errorf("%s of %s, for %.1f s: %v\n%.3000s", script, box, time.Since(began).Seconds(), err, r)
	}
}
