package e2e

import (
	"fmt"
	"testing"
	"time"
)

// A wayDown is how a start is begun, and told to stop. The stop has a minute, of which it takes a second.
type wayDown struct{ image, start, stop string }

func waysDown() map[string]wayDown {
	by := "boxrun up late & until [ -e /run/boxrun/locks/box-late.lock ]; do sleep 0.01; done" // a down before that finds nothing to stop
	enabled := "systemctl start --no-block boxrun@late"
	return map[string]wayDown{
		"down":                {"/srv/web", by, "timeout 60 boxrun down late"},
		"down of hello":       {"builtin:hello", by, "timeout 60 boxrun down late"},
		"a signal":            {"/srv/web", by, "kill $!"},
		"its service stopped": {"/srv/web", by, "if systemctl -q is-active boxrun-late; then timeout 60 systemctl stop boxrun-late; else kill $!; fi"},
		"enabled":             {"/srv/web", enabled, "timeout 60 systemctl stop boxrun@late"},
		"enabled, down":       {"/srv/web", enabled, "timeout 60 boxrun down late; timeout 60 systemctl stop boxrun@late"},
		"enabled, anew":       {"/srv/web", enabled + "; sleep 0.2; systemctl restart --no-block boxrun@late", "timeout 60 systemctl stop boxrun@late"},
	}
}

// A box that is told to stop goes, in whichever moment of its start: the word is not lost.
func TestStoppedAtAnyMoment(t *testing.T) {
	last, step := 400*time.Millisecond, 90*time.Millisecond
	if soak() {
		step = 5 * time.Millisecond
	}
	for name, way := range waysDown() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			h.profile("late", fmt.Sprintf("image = %q\n", way.image))
			if len(way.start) > 0 && way.start[0] == 's' {
				h.must("boxrun", "enable", "late")
			}
			for moment := time.Duration(0); moment < last; moment += step {
				h.stoppedAfter(moment, way)
			}
		})
	}
}

// stoppedAfter starts a box and stops it after a time.
func (h host) stoppedAfter(moment time.Duration, way wayDown) {
	h.t.Helper()
	script := fmt.Sprintf("set +m; %s\nsleep %.3f\n%s\ncode=$?; wait; exit $code", way.start, moment.Seconds(), way.stop)
	if r := h.run("timeout", "100", "bash", "-c", script); r.Code != 0 {
		h.t.Errorf("a stop %v after the start: %v", moment, r)
	}
	h.gives("", "boxrun", "ps", "-q")
	if soak() {
		h.gives("", "systemctl", "list-units", "--no-legend", "apptainer-*.scope")
	}
}
