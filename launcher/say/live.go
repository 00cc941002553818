package say

import (
	"fmt"
	"sync"
	"time"
)

// Live shows a changing line to a person: at most every 100 ms, and only new text. Goroutines may share a Live.
type Live struct {
	show func(string) // nil: nobody is looking

	mu   sync.Mutex
	last string
	at   time.Time
}

// NewLive returns a Live calling show with each text, and with "" to remove the line. A nil show shows nothing.
func NewLive(show func(string)) *Live { return &Live{show: show} }

// every is the least time between two texts.
const every = 100 * time.Millisecond

// Due reports whether Say would show a new text.
func (l *Live) Due() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.show != nil && time.Since(l.at) >= every
}

// Say shows text, or drops text coming too early; callers call Say again soon.
func (l *Live) Say(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.show == nil || text == l.last || time.Since(l.at) < every {
		return
	}
	l.last, l.at = text, time.Now()
	l.show(text)
}

// End removes the line, if shown, and shows nothing from then on.
func (l *Live) End() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last != "" {
		l.show("")
	}
	l.last, l.show = "", nil
}

// Seconds returns a duration for the end of a line, " (12s)"; "" below a second.
func Seconds(d time.Duration) string {
	if d < time.Second {
		return ""
	}
	return fmt.Sprintf(" (%s)", d.Truncate(time.Second))
}
