package undone

import (
	"strings"
	"testing"
	"time"
)

// A thing is put back at once a few times, and after pauses then: the less a repair holds, the longer.
func TestPauses(t *testing.T) {
	for _, test := range []struct {
		name string
		held time.Duration
		want string
	}{
		{"undone at once", 0, "0s 0s 0s 0s 0s 500ms 1s 2s 4s 8s 16s 32s 1m0s 1m0s"},
		{"undone each second", time.Second, "0s 0s 0s 0s 0s 500ms 1s 2s 2s 2s 2s 2s 2s 2s"},
		{"undone each minute", time.Minute, "0s 0s 0s 0s 0s 33ms 33ms 33ms 33ms 33ms 33ms 33ms 33ms 33ms"},
		{"undone each two hours", 2 * time.Hour, "0s 0s 0s 0s 0s 0s 0s 0s 0s 0s 0s 0s 0s 0s"},
	} {
		var r Record
		var pauses []string
		drift, now, told := []string{"a rule is missing"}, time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), 0
		for range 14 {
			now = now.Add(test.held)
			r = r.Found(drift, nil, now)
			var pause time.Duration
			if len(r.Things) > 0 {
				pause = r.Things[0].Pause
			}
			pauses = append(pauses, pause.Truncate(time.Millisecond).String())
			if waits, calls := r.Judge(drift, now); waits != (pause > 0) || calls == waits {
				t.Errorf("%s: with a pause of %v: waits %v, calls %v", test.name, pause, waits, calls)
			}
			now = now.Add(pause)
			if _, calls := r.Judge(drift, now); !calls {
				t.Errorf("%s: after a pause of %v nothing is due", test.name, pause)
			}
			var known []Thing
			r, known = r.Repaired(Outcome{Before: drift, After: []string{}}, nil, now)
			told += len(known)
		}
		if got := strings.Join(pauses, " "); got != test.want {
			t.Errorf("%s: got\n%s\nwant\n%s", test.name, got, test.want)
		}
		if want := min(1, int(calm/(test.held+1))); told != want {
			t.Errorf("%s: people are told %d times, want %d", test.name, told, want)
		}
	}
}

// What waits keeps nothing else from a repair, but for what no repair puts back, and what is undone by the same act.
func TestWhatWaitsAlone(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	r := Record{Left: []string{"a policy blocks"}, Things: []Thing{
		{What: "fought", Times: 9, Mended: at, Pause: 8 * time.Second}, {What: "with it", Times: 2, Mended: at, Pause: longest}, {What: "before", Times: 9, Mended: at, Undone: at}}}
	r = r.Found([]string{"fought", "with it", "before"}, []string{"iptables=bash of site.service", ""}, at.Add(time.Millisecond))
	for drift, want := range map[string]string{
		"fought": "waits", "fought, with it": "waits", "fought, a policy blocks": "waits", "a policy blocks": "",
		"fought, another": "waits calls", "fought, before": "waits calls", "another": "calls",
	} {
		waits, calls := r.Judge(strings.Split(drift, ", "), at.Add(time.Second))
		got := strings.TrimSpace(map[bool]string{true: "waits "}[waits] + map[bool]string{true: "calls"}[calls])
		if got != want {
			t.Errorf("%s: got %q, want %q", drift, got, want)
		}
	}
	if waits, calls := r.Judge([]string{"fought", "with it"}, at.Add(17*time.Second)); waits || !calls {
		t.Error("a pause of long ago counts")
	}
	if waits, calls := r.Judge([]string{"fought"}, at.Add(-time.Hour)); waits || !calls {
		t.Error("a clock that was set back makes the pause longer")
	}
	if _, known := r.Repaired(Outcome{Before: []string{"with it"}}, nil, at.Add(time.Minute)); len(known) > 0 {
		t.Errorf("told of %v", known)
	}
	if got := r.Postponed([]string{"before"}, at); got.Things[2].Pause != longest {
		t.Errorf("after a repair that failed the next comes after %v", got.Things[2].Pause)
	}
}

// The program with the most changes is named, once for each time, with its origin.
func TestCulprit(t *testing.T) {
	var thing Thing
	for _, by := range []string{"iptables=", "iptables=bash of site.service", "nft=", "iptables=bash of site.service", "iptables="} {
		thing.mended(time.Time{})
		thing.blame([]string{""})
		thing.blame([]string{by})
		thing.blame([]string{"nft="}) // of the same time
	}
	if got, want := thing.Culprit(), "2 of them after a change by iptables"; !strings.HasPrefix(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	thing.mended(time.Time{})
	thing.blame([]string{"iptables=bash of site.service"})
	if got, want := thing.Culprit(), "3 of them after a change by iptables, run by bash of site.service"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
