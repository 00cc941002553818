package timing

import (
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Boxrun is who does the stretches noted by Done.
const Boxrun = "boxrun"

// Stretch is some work of an up. Stretches of different workers overlap.
type Stretch struct {
	Who, What string
	Begin     time.Time
	End       time.Time
}

// Times are the stretches of an up. Start begins the time.
type Times struct {
	began, last time.Time
	stretches   []Stretch
}

// Start begins the time of an up.
func Start() *Times {
	now := time.Now()
	return &Times{began: now, last: now}
}

// Done notes what boxrun did since the last Done.
func (t *Times) Done(what string) {
	now := time.Now()
	t.stretches = append(t.stretches, Stretch{Boxrun, what, t.last, now})
	t.last = now
}

// Add notes what others did. A stretch with an unknown begin or end is left out.
func (t *Times) Add(who, what string, begin, end time.Time) {
	if !begin.IsZero() && !end.IsZero() {
		t.stretches = append(t.stretches, Stretch{who, what, begin, end})
	}
}

// LastDone returns the end of boxrun's stretch what; the zero Time if there is none.
func (t *Times) LastDone(what string) time.Time {
	for _, s := range slices.Backward(t.stretches) {
		if s.Who == Boxrun && s.What == what {
			return s.End
		}
	}
	return time.Time{}
}

// Rows returns a header and a row for each stretch, in the order of the beginnings: milliseconds since the begin of the
// up, and how long the stretch took.
func (t *Times) Rows() [][]string {
	sorted := slices.SortedStableFunc(slices.Values(t.stretches), func(a, b Stretch) int { return a.Begin.Compare(b.Begin) })
	rows := [][]string{{"AT", "TOOK", "WHO", "WHAT"}}
	for _, s := range sorted {
		rows = append(rows, []string{ms(s.Begin.Sub(t.began)), ms(s.End.Sub(s.Begin)), s.Who, s.What})
	}
	return append(rows, []string{ms(0), ms(t.last.Sub(t.began)), Boxrun, "the whole up"})
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }

// OnClock returns the moment at which a clock of the kernel had the value at; the zero Time for the value 0.
func OnClock(clock int32, at time.Duration) time.Time {
	var now unix.Timespec
	if err := unix.ClockGettime(clock, &now); err != nil || at == 0 {
		return time.Time{}
	}
	return time.Now().Add(at - time.Duration(now.Nano()))
}
