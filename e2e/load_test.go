package e2e

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// crowdSize is how many boxes are up at once: fifty, or a sample.
func crowdSize() int {
	if soak() {
		return 50
	}
	return 12
}

// crowd writes so many profiles, each with a port of its own, and gives their names.
func (h host) crowd(n int) (names []string) {
	h.t.Helper()
	for i := range n {
		name := fmt.Sprintf("c%d", i)
		h.profile(name, fmt.Sprintf("image = \"builtin:hello\"\n[network]\nports = [\"%d:80\"]\n[ready]\ntcp = [80]\n", 7100+i))
		names = append(names, name)
	}
	return names
}

// reachable wants each box of a crowd to answer the client with its own name.
func (h host) reachable(names []string) {
	h.t.Helper()
	script := `for i in $(seq 0 ` + strconv.Itoa(len(names)-1) + `); do
		curl -sS -m 5 http://192.0.2.1:$((7100 + i))/ | grep -q "\bc$i\b" || echo "c$i does not answer"; done`
	if got := h.client("bash", "-c", script); got != "" {
		h.t.Error(got)
	}
}

// Many boxes come up at once, from one boxrun or from one each; each is reached, and all go without a trace.
func TestACrowd(t *testing.T) {
	h := newHost(t)
	names := h.crowd(crowdSize())
	all := strings.Join(names, " ")
	h.must("boxrun", "up", names[0])
	h.must("boxrun", "down", names[0])
	before := h.dump()
	for _, way := range []struct{ name, up, down string }{
		{"one boxrun", "boxrun up " + all, "boxrun down --all"},
		{"a boxrun each", each("up", all), each("down", all)},
	} {
		t.Run(way.name, func(t *testing.T) {
			h := h.in(t)
			up := h.stopwatch(way.up)
			h.reachable(names)
			if list := boxes(h); len(list) != len(names) {
				t.Errorf("ps shows %d boxes, want %d", len(list), len(names))
			}
			h.looksAtEachOnce(names)
			down := h.stopwatch(way.down)
			t.Logf("%d boxes up in %v, down in %v", len(names), up.Round(10*time.Millisecond), down.Round(10*time.Millisecond))
			time.Sleep(settled)
			h.same(before, left()...)
		})
	}
}

// looksAtEachOnce wants an up of a box that is up to look a few times at each other box, and not at each for each.
func (h host) looksAtEachOnce(names []string) {
	h.t.Helper()
	opened := h.sh("strace -f -qq -e trace=openat -e signal=none -o /root/opened boxrun up " + names[0] + "; grep -c /stat /root/opened")
	if looks, err := strconv.Atoi(strings.TrimSpace(opened)); err != nil || looks > 2*len(names)+20 {
		h.t.Errorf("up of a box that is up looks at processes %s times, with %d boxes up: %v", strings.TrimSpace(opened), len(names), err)
	}
}

// each runs a boxrun for each name at once, and fails where one of them does.
func each(verb, names string) string {
	return `pids=; for n in ` + names + `; do boxrun ` + verb + ` $n & pids="$pids $!"; done; for p in $pids; do wait $p; done`
}

// stopwatch gives how long a script takes that has to succeed.
func (h host) stopwatch(script string) time.Duration {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 5*time.Minute)
	defer cancel()
	began := time.Now()
	r, err := h.Exec(ctx, "bash", "-ec", script)
	took := time.Since(began)
	if err != nil || r.Code != 0 {
		h.t.Fatalf("%v\n%v", err, r)
	}
	return took
}

// resources gives counts of what a host may run out of unseen: descriptors of systemd, mounts, loop devices in use, the
// kernel's network namespaces it holds by processes, inodes of /run, and memory cgroups.
const resources = `
	echo "descriptors of systemd $(ls /proc/1/fd | wc -l)"
	echo "mounts $(wc -l < /proc/1/mountinfo)"
	echo "loop devices $(losetup -n -l | grep -c squash)"
	echo "network namespaces $(lsns -n -t net | wc -l)"
	echo "files below /run $(find /run -xdev ! -path '/run/log/*' ! -path '/run/systemd/*' ! -path '/run/udev/*' | wc -l)"
	echo "units $(systemctl list-units --all --no-legend --plain 'boxrun*' 'apptainer*' | wc -l)"
	echo "processes $(ps -e --no-headers | grep -cv 'ps\|grep\|bash\|wc')"
	echo "conntrack $(conntrack -L -d 10.22.0.0/16 2> /dev/null | wc -l)"
	echo "temporary files $(find /tmp /var/tmp /var/lib/cni /root/.apptainer -type f | wc -l)"
`

// grown says whether a count of resources is higher than before. Helpers of the host's systemd, which end when idle, may
// be counted before.
func grown(t *testing.T, before, after string) bool {
	t.Helper()
	counts := func(text string) []int {
		var all []int
		for line := range strings.Lines(text) {
			words := strings.Fields(line)
			n, err := strconv.Atoi(words[len(words)-1])
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, n)
		}
		return all
	}
	old, now := counts(before), counts(after)
	for i, n := range now {
		if n > old[i] {
			return true
		}
	}
	return false
}

// Rounds of up and down leak nothing, seen or unseen.
func TestRoundsLeakNothing(t *testing.T) {
	h := newHost(t)
	h.sh("boxrun up hello web; boxrun down --all")
	time.Sleep(settled)
	before, counted := h.dump(), h.sh(resources)
	rounds := 10
	if soak() {
		rounds = 200
	}
	for range rounds {
		h.must("boxrun", "up", "web")
		h.page()
		h.must("boxrun", "down", "web")
	}
	time.Sleep(settled)
	h.same(before, left()...)
	if got := h.sh(resources); grown(t, counted, got) {
		t.Errorf("after %d rounds:\n%swant at most:\n%s", rounds, got, counted)
	}
	t.Logf("%d rounds of up and down", rounds)
}

// A box is asked for as many new connections a second with a crowd beside it as alone: what a packet passes does not grow
// with the boxes. Measured in pairs, box and crowd by turns, so that what slows the machine slows both.
func TestACrowdDoesNotSlowABoxDown(t *testing.T) {
	h := newHost(t)
	names := h.crowd(crowdSize())
	last := names[len(names)-1]
	pairs, least := 15, 0.8 // on a machine that others use
	if soak() {
		pairs, least = 60, 0.95
	}
	// The last one's rules come last: it would pass those of all others first.
	h.sh("boxrun up " + strings.Join(names[:len(names)-1], " "))
	h.must("boxrun", "up", last)
	rules := map[string]string{"crowd": h.sh("iptables-save")}
	h.sh("boxrun down " + strings.Join(names[:len(names)-1], " "))
	rules["alone"] = h.sh("iptables-save")
	rate := func(who string) float64 {
		h.sh("iptables-restore << 'RULES'\n" + rules[who] + "RULES")
		return h.connections(last)
	}
	rate("alone")
	var ratios, rates []float64
	for range pairs { // the order turns around, as what slows down or speeds up by itself would favour one
		first, crowded, again, second := rate("alone"), rate("crowd"), rate("crowd"), rate("alone")
		ratios = append(ratios, (crowded+again)/(first+second))
		rates = append(rates, (first+second)/2)
	}
	median := slices.Sorted(slices.Values(ratios))[len(ratios)/2]
	t.Logf("alone %.0f new connections a second; with %d boxes %.3f of that (median of %d pairs, %.3f to %.3f)",
		slices.Sorted(slices.Values(rates))[pairs/2], len(names), median, pairs, slices.Min(ratios), slices.Max(ratios))
	if median < least {
		t.Errorf("with %d boxes a box takes %.2f of the new connections a second it takes alone, want %.2f", len(names), median, least)
	}
}

// connections gives how many connections a second the client can make to a box, each answered.
func (h host) connections(name string) float64 {
	h.t.Helper()
	port, err := strconv.Atoi(strings.TrimPrefix(name, "c"))
	if err != nil {
		h.t.Fatal(err)
	}
	out := h.client(h.probe, "rate", fmt.Sprintf("192.0.2.1:%d", 7100+port), "300ms")
	rate, err := strconv.ParseFloat(strings.TrimSpace(out), 64)
	if err != nil {
		h.t.Fatalf("probe rate says %q", out)
	}
	return rate
}
