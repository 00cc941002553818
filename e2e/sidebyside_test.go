package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// slowly is a unit that takes 4 s to start and to stop.
const slowly = "[Unit]\\nBefore=nginx.service\\n[Service]\\nType=oneshot\\nRemainAfterExit=yes\\nExecStart=/bin/sleep 4\\nExecStop=/bin/sleep 4\\n" +
	"[Install]\\nWantedBy=multi-user.target\\n"

// Boxes that do not depend on each other come and go side by side, in hardly more time than one; others in order.
func TestBoxesSideBySide(t *testing.T) {
	h := newHost(t)
	h.sh("cp -a /srv/web /srv/slow; printf '" + slowly + "' > /srv/slow/etc/systemd/system/slow.service;" +
		" ln -s ../slow.service /srv/slow/etc/systemd/system/multi-user.target.wants/")
	for _, name := range []string{"a", "b", "c"} {
		h.profile(name, "image = \"/srv/slow\"\n[ready]\nunits = [\"slow.service\"]\n")
	}
	timed := func(argv ...string) (time.Duration, string) {
		t.Helper()
		began := time.Now()
		r := h.run(argv...)
		if r.Code != 0 {
			t.Fatalf("%s: %v", argv, r)
		}
		return time.Since(began), r.Stderr
	}
	oneUp, _ := timed("boxrun", "up", "a")
	oneDown, _ := timed("boxrun", "down", "a")
	allUp, said := timed("boxrun", "up", "c", "a", "b")
	for _, name := range []string{"a", "b", "c"} {
		if !strings.Contains(said, "boxrun: "+name+": waiting for slow.service") || !strings.Contains(said, "boxrun: "+name+": started") {
			t.Errorf("up does not say what %s waits for, and when it has started:\n%s", name, said)
		}
	}
	addresses := h.must("sh", "-c", "boxrun ps --json | jq -r 'map(.name + \" \" + .address) | join(\", \")'")
	if want := "a 10.22.0.3, b 10.22.0.4, c 10.22.0.2\n"; addresses != want || strings.Contains(said, "which works on") {
		t.Errorf("got the addresses %swant them in the order typed, %sand nobody waiting for himself:\n%s", addresses, want, said)
	}
	allRestart, _ := timed("boxrun", "restart", "--all")
	allDown, _ := timed("boxrun", "down", "--all")
	t.Logf("one up %v, three %v; one down %v, three %v; three restarted %v", oneUp, allUp, oneDown, allDown, allRestart)
	if allUp > oneUp*13/10+time.Second || allDown > oneDown*13/10+time.Second {
		t.Errorf("three take %v and %v, one %v and %v", allUp, allDown, oneUp, oneDown)
	}

	// In order: the last needs the first, which takes its time.
	h.profile("d", "image = \"builtin:hello\"\ndepends_on = [\"a\"]\n")
	_, said = timed("boxrun", "up", "d", "a")
	if strings.Index(said, "a: started") > strings.Index(said, "d: started") {
		t.Errorf("d needs a, and is up before:\n%s", said)
	}
	if r := h.run("boxrun", "down", "--dry-run", "a"); r.Code != 0 || !strings.Contains(r.Stderr, "boxrun: warning: a: is needed by what stays up: d\n") {
		t.Errorf("down of what d needs: %v", r)
	}
	_, said = timed("boxrun", "down", "a", "d")
	if strings.Contains(said, "is needed by") {
		t.Errorf("d goes as well, and down says\n%s", said)
	}
	if strings.Index(said, "d: is down") > strings.Index(said, "a: is down") {
		t.Errorf("d needs a, and is down after:\n%s", said)
	}

	// What fails fails alone, and is told by its name; the code is that of the first.
	h.profile("bad", "image = \"/srv/nowhere\"\n")
	r := h.run("boxrun", "up", "d", "bad", "nosuch")
	if r.Code != 1 || !strings.Contains(r.Stderr, "d: started") || !strings.Contains(r.Stderr, "/srv/nowhere") ||
		!strings.Contains(r.Stderr, "nosuch") {
		t.Errorf("up of one that can and two that cannot: %v", r)
	}
	h.must("boxrun", "down", "--all")
}

// Many at once take less time than one after the other.
func TestManyBoxesSideBySide(t *testing.T) {
	h := newHost(t)
	n := 8
	if soak() {
		n = 50
	}
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("h%d", i))
		h.profile(names[i], "image = \"builtin:hello\"\n")
	}
	before := h.dump()
	began := time.Now()
	for _, name := range names {
		h.must("boxrun", "up", name)
	}
	inARow := time.Since(began)
	h.must("boxrun", "down", "--all")
	began = time.Now()
	h.must(append([]string{"boxrun", "up"}, names...)...)
	atOnce := time.Since(began)
	h.must("boxrun", "down", "--all")
	h.same(before, stays()...)
	t.Logf("%d boxes in a row %v, side by side %v", n, inARow, atOnce)
	if atOnce > inARow || soak() && atOnce > inARow*6/10 {
		t.Errorf("side by side %d boxes take %v, in a row %v", n, atOnce, inARow)
	}
}
