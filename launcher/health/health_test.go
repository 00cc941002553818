package health

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"boxrun/launcher/box"
	"boxrun/launcher/testkit"
	"boxrun/profiles"
)

// boxOf returns a box that was started at start and is looked at every 10 s.
func boxOf(start time.Time, retries int, action string) *box.Box {
	p := profiles.Default()
	p.Ready.Timeout = 90 * time.Second
	p.Health = profiles.Health{Interval: 10 * time.Second, Timeout: 5 * time.Second, Retries: retries, Action: action}
	return &box.Box{Name: "web", Phase: box.Running, Profile: p, Started: start, Unit: "boxrun-web.service"}
}

// A box changes its state after the looks that retries asks for, and each change has one line.
func TestChangesHaveALine(t *testing.T) {
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	dead, well := []string{"port 80 refuses connections"}, []string(nil)
	for _, test := range []struct {
		name    string
		retries int
		looks   [][]string // a look every 10 s
		want    string
	}{
		{"well from the first look on", 1, [][]string{well, well}, "is healthy | -"},
		{"starting, for ready.timeout", 1, [][]string{dead, dead, well}, "- | - | is healthy"},
		{"never ready", 1, [][]string{dead, dead, dead, dead, dead, dead, dead, dead, dead, dead},
			"- | - | - | - | - | - | - | - | is unhealthy: port 80 refuses connections (tell) | -"},
		{"dies and comes back", 1, [][]string{well, dead, dead, well}, "is healthy | is unhealthy: port 80 refuses connections (tell) | - | is healthy"},
		{"misses one look of two", 2, [][]string{well, dead, well, dead, well}, "is healthy | - | - | - | -"},
		{"misses two looks of two", 2, [][]string{well, dead, dead}, "is healthy | - | is unhealthy: port 80 refuses connections (tell)"},
	} {
		b, r := boxOf(start, test.retries, "none"), Record{}
		var got []string
		for i, unmet := range test.looks {
			var v Verdict
			r, v = r.After(Look{At: start.Add(time.Duration(i+1) * 10 * time.Second), Unmet: unmet}, b)
			got = append(got, verdict(v))
		}
		if text := strings.Join(got, " | "); text != test.want {
			t.Errorf("%s: got\n%s\nwant\n%s", test.name, text, test.want)
		}
	}
}

func verdict(v Verdict) string {
	text := v.Line
	if text == "" {
		text = "-"
	}
	if v.Notify {
		text += " (tell)"
	}
	if v.Restart {
		text += " (restart)"
	}
	return text
}

// A box that does not get well is restarted five times in ten minutes, and then left, until it was well for once.
func TestRestartsAreBounded(t *testing.T) {
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	b, r := boxOf(start, 1, "restart"), Record{State: Healthy, Since: start}
	var got []string
	at := start
	look := func(unmet ...string) {
		var v Verdict
		at = at.Add(20 * time.Second)
		r, v = r.After(Look{At: at, Unmet: unmet}, b)
		got = append(got, verdict(v))
	}
	for range 7 {
		look("no")
	}
	at = at.Add(time.Hour)
	look("no")
	look()
	look("no")
	testkit.WantText(t, strings.Join(got, "\n"), `is unhealthy: no (tell) (restart)
- (restart)
- (restart)
- (restart)
- (restart)
is unhealthy: no; it was restarted 5 times in 10m0s, and is left as it is
-
-
is healthy
is unhealthy: no (tell) (restart)`)
}

// Of several facts the worst gives the word.
func TestWord(t *testing.T) {
	running := func(f Facts) Facts {
		f.State = string(box.Running)
		return f
	}
	for _, test := range []struct {
		f    Facts
		want string
	}{
		{Facts{State: Down}, "down"},
		{Facts{State: Busy}, "busy"},
		{Facts{State: box.Crashed, Known: true, Ready: true}, "crashed"},
		{Facts{State: string(box.Starting)}, "not ready"},
		{Facts{State: string(box.Stopping), Ready: true}, "busy"},
		{running(Facts{}), "running"},
		{running(Facts{Ready: true}), "running"},
		{running(Facts{Known: true}), "healthy"},
		{running(Facts{Known: true, Unmet: []string{"a", "b"}}), "not ready: a; b"},
		{running(Facts{Known: true, Ready: true, Unmet: []string{"a"}, Drifted: []string{"d"}}), "unhealthy: a"},
		{running(Facts{Known: true, Ready: true, Failed: []string{"f"}, Drifted: []string{"d"}}), "drifted: d"},
		{running(Facts{Known: true, Ready: true, Failed: []string{"f", "g"}}), "degraded: failed: f, g"},
	} {
		if got := test.f.String(); got != test.want {
			t.Errorf("%+v: got %q, want %q", test.f, got, test.want)
		}
	}
}

// A record tells of now as long as looks go on. Where they have stopped nobody says that the box is well, but whoever looks.
func TestLooksThatStop(t *testing.T) {
	looked := time.Date(2026, 3, 1, 12, 0, 0, 0, time.Local)
	b := boxOf(looked, 1, "none")
	const since = `nobody has looked at it since 2026-03-01 12:00:00: "boxrun repair" has it looked at again`
	tell := func(later time.Duration, want, wantStopped string) {
		t.Helper()
		r := Record{State: Healthy, Looked: looked}
		f := FactsOf(b, string(box.Running), r, looked.Add(later))
		testkit.WantText(t, f.String()+"|"+r.Stopped(b, looked.Add(later)), want+"|"+wantStopped)
	}
	tell(0, "healthy", "")
	tell(20*time.Second, "healthy", "")
	tell(5*time.Minute, "unhealthy: "+since, since)
	testkit.WantText(t, FactsSeen(b, Look{}, Record{State: Healthy}, []string{since}).String(), "drifted: "+since)
	testkit.WantText(t, Record{}.Stopped(b, looked), "") // never looked at: the box is starting
	b.Unit = ""                                          // on a host without systemd nobody ever looks
	tell(5*time.Minute, "running", "")
	b.Unit, b.Profile.Health.Interval = "boxrun-web.service", 0
	tell(5*time.Minute, "running", "")
}

// An enabled service that ran when the box was ready, and has no cgroup now, is named; a unit of [ready] makes it unmet.
func TestServicesThatEnd(t *testing.T) {
	b := boxOf(time.Now(), 1, "none")
	b.Cgroup, b.Profile.Health.Interval = t.TempDir(), 0
	runs := func(cgroup string) {
		if err := os.MkdirAll(filepath.Join(b.Cgroup, cgroup), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	runs("system.slice/nginx.service")
	runs(`system.slice/system-my\x2dapp.slice/my-app@1.service`)
	runs("system.slice/by-hand.service")
	wanted := []string{"nginx.service", "my-app@1.service", "done.service", "remote-fs.target", "../../x.service"}
	r := Record{State: Healthy, Failed: []string{"bad.service"}, Services: Services(b, wanted, nil)}
	tell := func(want string) {
		t.Helper()
		f := FactsOf(b, string(box.Running), r, time.Now())
		testkit.WantText(t, f.Word()+": "+f.Why(), want)
	}
	tell("degraded: failed at the start: bad.service")
	runs("system.slice/bad.service")
	tell("running: ")
	for _, gone := range r.Services {
		if err := os.Remove(filepath.Join(b.Cgroup, gone)); err != nil {
			t.Fatal(err)
		}
	}
	tell("degraded: ended: nginx.service, my-app@1.service")
	b.Profile.Ready.Units = []string{"nginx.service"}
	tell("unhealthy: unit nginx.service has ended")
	r.Services = Services(b, []string{"my-app@1.service"}, r.Services) // nginx was disabled
	tell("degraded: ended: my-app@1.service")
}
