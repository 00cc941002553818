package launcher

import (
	"fmt"
	"sync"
	"time"
)

// liveLine shows a changing line to a person: at most every 100 ms, and only new text.
type liveLine struct {
	show func(string) // nil: nobody is looking

	mu   sync.Mutex
	last string
	at   time.Time
}

// newLiveLine returns a liveLine showing its text by show.
func newLiveLine(show func(string)) *liveLine { return &liveLine{show: show} }

// say shows text, or drops text coming too early; callers of say call again soon.
func (l *liveLine) say(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.show == nil || text == l.last || time.Since(l.at) < 100*time.Millisecond {
		return
	}
	l.last, l.at = text, time.Now()
	l.show(text)
}

// end removes the line, if shown, and shows nothing from then on.
func (l *liveLine) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last != "" {
		l.show("")
	}
	l.last, l.show = "", nil
}

// seconds returns a duration for the end of a line, " (12s)"; "" below a second.
func seconds(d time.Duration) string {
	if d < time.Second {
		return ""
	}
	return fmt.Sprintf(" (%s)", d.Truncate(time.Second))
}
