package health

import (
	"slices"
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
	Failed  []string // failed units in the box; of a box not Known, when the box was ready
	Ended   []string // enabled services that ran when the box was ready, and have no process now
	Drifted []string // what is out of place on the host
	Systemd string   // state of the systemd in the box, of a look made now: as of guest.Seen
}

// Words for a box. A box without a word of its own has the word of its State.
const (
	NotReady = "not ready"
	Degraded = "degraded" // a unit failed or ended, and [ready] does not name the unit
	Drifted  = "drifted"
	Busy     = "busy" // another boxrun works on the box
	Down     = "down"
)

// StillDrifted is what "boxrun repair" says between the name of a box and what is out of place there after the repair.
const StillDrifted = ": still drifted: "

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
	case len(f.Failed)+len(f.Ended) > 0:
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
		return f.fallen()
	}
	return ""
}

// fallen names the units that failed, and the services that ended otherwise.
func (f Facts) fallen() string {
	failed := "failed: "
	if !f.Known {
		failed = "failed at the start: "
	}
	var parts []string
	if len(f.Failed) > 0 {
		parts = append(parts, failed+strings.Join(f.Failed, ", "))
	}
	ended := slices.DeleteFunc(slices.Clone(f.Ended), func(unit string) bool { return slices.Contains(f.Failed, unit) })
	if len(ended) > 0 {
		parts = append(parts, "ended: "+strings.Join(ended, ", "))
	}
	return strings.Join(parts, "; ")
}

// endedOf returns an unmet check for each unit of [ready] that ended.
func endedOf(ready, ended []string) []string {
	var unmet []string
	for _, unit := range ready {
		if slices.Contains(ended, unit) {
			unmet = append(unmet, "unit "+unit+" has ended")
		}
	}
	return unmet
}

// String returns the word, and the reason where there is one.
func (f Facts) String() string {
	if why := f.Why(); why != "" {
		return f.Word() + ": " + why
	}
	return f.Word()
}

// FactsOf returns what the record of looks tells of a box in a state, and the cgroup of a running box. Without
// health.interval that is which units failed at the start, and which services ended since. A record of long ago tells of
// looks that have ended.
func FactsOf(b *box.Box, state string, r Record, now time.Time) Facts {
	f := Facts{State: state, Ready: r.State != Unready}
	if r.State == Unready {
		return f
	}
	f.Ended = Ended(b, r.Services)
	if !wanted(b) {
		f.Unmet = endedOf(b.Profile.Ready.Units, f.Ended)
		f.Failed = slices.DeleteFunc(slices.Clone(r.Failed), func(unit string) bool { return cgroupOf(b, unit) != "" })
		return f
	}
	f.Known, f.Failed = true, r.Failed
	switch stopped := r.Stopped(b, now); {
	case stopped != "":
		f.Unmet = []string{stopped}
	case r.State == Unhealthy:
		f.Unmet = r.Unmet
	default: // the next look will say so
		f.Unmet = endedOf(b.Profile.Ready.Units, f.Ended)
	}
	return f
}

// FactsSeen returns what a look at a running box of now tells, beside the record of earlier looks and what drifted.
func FactsSeen(b *box.Box, l Look, r Record, drifted []string) Facts {
	return Facts{State: string(box.Running), Known: true, Ready: r.State != Unready, Unmet: l.Unmet, Failed: l.Failed,
		Ended: Ended(b, r.Services), Drifted: drifted, Systemd: l.State}
}
