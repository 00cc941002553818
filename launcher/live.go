package launcher

import (
	"fmt"
	"sync"
	"time"
)

// liveLine shows a line that changes, for a person to read: not more often than every 100 ms, and only what is new.
type liveLine struct {
	show func(string) // nil: nobody looks

	mu   sync.Mutex
	last string
	at   time.Time
}

func newLiveLine(show func(string)) *liveLine { return &liveLine{show: show} }

// say shows text, or drops it: it is the caller's habit to come again.
func (l *liveLine) say(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.show == nil || text == l.last || time.Since(l.at) < 100*time.Millisecond {
		return
	}
	l.last, l.at = text, time.Now()
	l.show(text)
}

// end takes the line away, where there is one, and shows no other.
func (l *liveLine) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last != "" {
		l.show("")
	}
	l.last, l.show = "", nil
}

// seconds gives a duration for the end of a line, " (12s)"; "" below a second.
func seconds(d time.Duration) string {
	if d < time.Second {
		return ""
	}
	return fmt.Sprintf(" (%s)", d.Truncate(time.Second))
}
