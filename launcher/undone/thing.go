package undone

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"boxrun/launcher/list"
	"boxrun/launcher/say"
)

const (
	often    = 5                      // how often a thing is put back at once, before pauses begin and people are told
	calm     = time.Hour              // in place, and a thing is forgotten: agents run each half hour
	shortest = 500 * time.Millisecond // of the pauses
	longest  = time.Minute
)

// Thing is something of a box, out of place at some time and put back.
type Thing struct {
	What   string    `json:"what"`            // as drift says it
	Since  time.Time `json:"since"`           // the first repair
	Times  int       `json:"times"`           // how often a repair put the thing back
	Mended time.Time `json:"mended"`          // the last repair
	Undone time.Time `json:"undone,omitzero"` // the change after Mended; zero while the thing is in place

	Pause time.Duration `json:"pause"` // of the next repair after Undone

	By     map[string]int `json:"by,omitempty"` // by program with its origin: how often it made a change before
	Blamed bool           `json:"blamed"`       // since Mended: somebody is known to have made changes
}

// Due returns when the next repair of a thing is due; zero for a thing in place.
func (t Thing) Due() time.Time {
	if t.Undone.IsZero() {
		return time.Time{}
	}
	return t.Undone.Add(t.Pause)
}

// waits reports whether the thing is out of place and not due yet. A clock set back makes no pause longer.
func (t Thing) waits(now time.Time) bool {
	pause := t.Due().Sub(now)
	return !t.Undone.IsZero() && pause > 0 && pause <= longest
}

// found notes that the thing is out of place, by a change at a time.
func (t *Thing) found(at time.Time) {
	before := t.Pause
	t.Undone, t.Pause = at, 0
	if t.Times >= often {
		t.Pause = pause(before, at.Sub(t.Mended))
	}
}

// mended notes that the thing is back in place.
func (t *Thing) mended(now time.Time) { t.Mended, t.Undone, t.Blamed = now, time.Time{}, false }

// pause returns how long a repair waits, by the pause before the last repair and the time for which the last repair held. Pauses
// double up to twice the inverse of the time in seconds: a thing undone each minute is put back at once, a thing undone after a
// second two seconds later, and a thing undone at once each minute, as nothing is gained there.
func pause(before, held time.Duration) time.Duration {
	gain := 2 * time.Second * time.Second / max(held, time.Millisecond)
	return min(max(2*before, shortest), gain, longest)
}

// blame counts the programs that made changes before the thing was found out of place, as of Repaired: once for each time.
func (t *Thing) blame(by []string) {
	by = slices.DeleteFunc(slices.Clone(by), func(text string) bool { return text == "" })
	if t.Blamed || len(by) == 0 {
		return
	}
	t.Blamed = true
	counted := map[string]int{}
	maps.Copy(counted, t.By)
	for _, text := range by {
		program, of, _ := strings.Cut(text, "=")
		if of != "" {
			program += ", run by " + of
		}
		counted[program]++
	}
	t.By = counted
}

// Culprit names the program with changes most often before the thing was found out of place, and how often; "" where no program
// is known. Other programs change something now and then, and of some times nothing is known.
func (t Thing) Culprit() string {
	if len(t.By) == 0 {
		return ""
	}
	most := slices.MaxFunc(slices.Sorted(maps.Keys(t.By)), func(a, b string) int { return cmp.Compare(t.By[a], t.By[b]) })
	return fmt.Sprintf("%d of them after a change by %s", t.By[most], most)
}

// News says of things of the same boxes, and of one repair, what the journal tells once.
func News(known []Thing) string {
	first := known[0]
	first.What = say.Listed(list.Map(known, func(t Thing) string { return t.What }), 3)
	return first.String() + ": boxrun puts that back after pauses of up to a minute from now on, and tells no more of it here"
}

// String says how often a thing is undone, and by whom.
func (t Thing) String() string {
	text := fmt.Sprintf("%s: undone %d times since %s", t.What, t.Times, t.Since.Local().Format(time.DateTime))
	if by := t.Culprit(); by != "" {
		text += ", " + by
	}
	return text
}
