package health

import (
	"fmt"
	"strings"
	"time"

	"boxrun/launcher/box"
)

// Facts are what is known of a box at a moment.
type Facts struct {
	State   string   // of box.Box, or "down"
	Known   bool     // a look at the running box was made lately
	Ready   bool     // the box was ready once since its start
	Unmet   []string // checks of [ready] unmet now
	Failed  []string // failed units in the box
	Drifted []string // what is out of place on the host
}

// Words for a box. A box without a word of its own has the word of its State.
const (
	NotReady = "not ready"
	Degraded = "degraded" // a unit failed, and [ready] does not name the unit
	Drifted  = "drifted"
	Busy     = "busy" // another boxrun works on the box
	Down     = "down"
)

// Word turns facts into a word. Of several words the worst counts.
func (f Facts) Word() string {
	switch {
	case f.State == string(box.Stopping):
		return Busy
	case f.State == string(box.Starting):
		return NotReady
	case f.State != string(box.Running):
		return f.State
	case len(f.Unmet) > 0 && !f.Ready:
		return NotReady
	case len(f.Unmet) > 0:
		return string(Unhealthy)
	case len(f.Drifted) > 0:
		return Drifted
	case len(f.Failed) > 0:
		return Degraded
	case f.Known:
		return string(Healthy)
	}
	return f.State
}

// Why says what the word is due to; "" where the word says all.
func (f Facts) Why() string {
	switch f.Word() {
	case NotReady, string(Unhealthy):
		return strings.Join(f.Unmet, "; ")
	case Drifted:
		return strings.Join(f.Drifted, "; ")
	case Degraded:
		return "failed: " + strings.Join(f.Failed, ", ")
	}
	return ""
}

// FactsOf returns what the record of looks tells of a box in a state. Without health.interval there is nothing to tell but
// the state. A record of long ago tells of looks that have ended.
func FactsOf(b *box.Box, state string, r Record, now time.Time) Facts {
	f := Facts{State: state, Ready: r.State != Unready}
	h := b.Profile.Health
	if h.Interval == 0 || r.State == Unready {
		return f
	}
	f.Known, f.Failed = true, r.Failed
	switch {
	case !r.Fresh(h, now):
		f.Unmet = []string{fmt.Sprintf("nobody has looked at the box for %v", now.Sub(r.Looked).Round(time.Second))}
	case r.State == Unhealthy:
		f.Unmet = r.Unmet
	}
	return f
}
