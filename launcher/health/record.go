package health

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"boxrun/launcher/box"
	"boxrun/launcher/files"
)

// State is the judgement over a box after its last look.
type State string

// A box is Unready until it was ready once.
const (
	Unready   State = ""
	Healthy   State = "healthy"
	Unhealthy State = "unhealthy"
)

// Record is what the looks at a box found so far. The file is removed together with all else of the box.
type Record struct {
	State  State     `json:"state"`
	Since  time.Time `json:"since,omitzero"`  // of State
	Looked time.Time `json:"looked,omitzero"` // end of the last look
	Unmet  []string  `json:"unmet"`           // of the last look
	Failed []string  `json:"failed"`          // of the last look
	Misses int       `json:"misses"`          // looks in a row with unmet checks

	Services []string `json:"services,omitempty"` // enabled services that ran when the box was ready, as of Services

	Restarts []time.Time `json:"restarts,omitempty"` // of the box, by health.action, the latest ones
	GaveUp   bool        `json:"gave_up,omitempty"`  // the box was restarted too often, and is restarted no more
}

// file returns the path of the record of a box.
func file(s *box.Store, name string) string { return filepath.Join(s.BoxDir(name), "health.json") }

// Load returns the record of a box. The record of a box never ready so far is zero, and so is an unreadable record, beside
// the error.
func Load(s *box.Store, name string) (Record, error) {
	var r Record
	if err := box.ReadJSON(file(s, name), &r); err != nil {
		return Record{}, files.IgnoreNotExist(err)
	}
	return r, nil
}

// Known is Load for those who show what is known: an unreadable record is none, until the next look replaces it.
func Known(s *box.Store, name string) Record {
	r, _ := Load(s, name)
	return r
}

// Save keeps the record. The caller holds the lock of the box, and has found the box on record.
func Save(s *box.Store, name string, r Record) error { return box.WriteJSON(file(s, name), r) }

// Start limits of a box, alike for restarts by health.action and by systemd (boxrun@.service).
const (
	restartsAtMost = 5
	restartsWithin = 10 * time.Minute
)

// Verdict is what follows from a look.
type Verdict struct {
	Line    string // for the journal, of a change; "" for none
	Notify  bool   // health.on_failure is due
	Restart bool   // the box is to be restarted
}

// After returns the record after a look at box b, and what follows. Before the box was ready once, unmet checks count only
// after ready.timeout: the box may still be starting.
func (r Record) After(l Look, b *box.Box) (Record, Verdict) {
	h, next := b.Profile.Health, r
	next.Looked, next.Unmet, next.Failed = l.At, l.Unmet, l.Failed
	switch {
	case len(l.Unmet) == 0:
		next.Misses, next.GaveUp = 0, false
		next.become(Healthy, l.At)
	case r.State == Unready && l.At.Before(b.Started.Add(b.Profile.Ready.Timeout)):
	default:
		next.Misses++
		if next.Misses >= h.Retries {
			next.become(Unhealthy, l.At)
		}
	}
	v := Verdict{}
	if next.State != r.State {
		v.Line, v.Notify = next.line(), next.State == Unhealthy
	}
	if next.State == Unhealthy && h.Action == "restart" && !r.GaveUp {
		v.Restart = next.mayRestart(l.At)
		if !v.Restart {
			next.GaveUp = true
			v.Line = next.line() + fmt.Sprintf("; it was restarted %d times in %v, and is left as it is", restartsAtMost, restartsWithin)
		}
	}
	return next, v
}

// become notes the state, and since when.
func (r *Record) become(s State, at time.Time) {
	if r.State != s {
		r.State, r.Since = s, at
	}
}

// line says the state in words.
func (r *Record) line() string {
	if r.State == Unhealthy {
		return "is unhealthy: " + strings.Join(r.Unmet, "; ")
	}
	return "is " + string(r.State)
}

// mayRestart reports whether the box may be restarted now, and counts the restart.
func (r *Record) mayRestart(now time.Time) bool {
	r.Restarts = slices.DeleteFunc(slices.Clone(r.Restarts), func(at time.Time) bool { return now.Sub(at) >= restartsWithin })
	if len(r.Restarts) >= restartsAtMost {
		return false
	}
	r.Restarts = append(r.Restarts, now)
	return true
}

// Stopped says that nobody has looked at a running box for long, and what brings the looks back; "" where looks go on. A host
// without systemd never looks.
func (r Record) Stopped(b *box.Box, now time.Time) string {
	h := b.Profile.Health
	if !wanted(b) || r.Looked.IsZero() || now.Sub(r.Looked) < 2*h.Interval+h.Timeout+hangGrace+staleGrace {
		return ""
	}
	return fmt.Sprintf("nobody has looked at it since %s: \"boxrun repair\" has it looked at again", r.Looked.Local().Format(time.DateTime))
}

// wanted reports whether the host's systemd is to look at a box.
func wanted(b *box.Box) bool { return b.Profile.Health.Interval > 0 && b.Unit != "" }

// staleGrace is how late a look may come on a busy host.
const staleGrace = 15 * time.Second
