package cluster

import (
	"bufio"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// every is how often the client asks.
const every = 50 * time.Millisecond

// answer is what the client got for one question.
type answer struct {
	asked time.Time
	body  string // "-" for none
}

// client asks for something every 50 ms, from its making to its end.
type client struct {
	mu      sync.Mutex
	answers []answer
}

// ask has the client ask for a page until the test ends.
func (s site) ask(url string) *client {
	s.t.Helper()
	c := &client{}
	cmd, out := s.onClient("watch", url, every.String())
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			at, body, _ := strings.Cut(lines.Text(), " ")
			ms, err := strconv.ParseInt(at, 10, 64)
			if err != nil {
				continue
			}
			c.note(answer{time.UnixMilli(ms), body})
		}
	}()
	s.t.Cleanup(func() { _ = cmd.Cancel(); _ = cmd.Wait() })
	return c
}

func (c *client) note(a answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers = append(c.answers, a)
}

// since gives the answers to what was asked from a time on, in that order.
func (c *client) since(begin time.Time) []answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []answer
	for _, a := range c.answers {
		if !a.asked.Before(begin) {
			found = append(found, a)
		}
	}
	slices.SortFunc(found, func(a, b answer) int { return a.asked.Compare(b.asked) })
	return found
}

// outage gives the time from the first unanswered question to the next answered one, the longest of them, and how many
// questions got no answer.
func outage(answers []answer) (longest time.Duration, lost int) {
	var from time.Time
	for _, a := range answers {
		switch {
		case a.body == "-" && from.IsZero():
			from = a.asked
			lost++
		case a.body == "-":
			lost++
		case !from.IsZero():
			longest = max(longest, a.asked.Sub(from))
			from = time.Time{}
		}
	}
	return longest, lost
}

// answering reports whether the last questions were answered, for a second.
func (c *client) answering() bool {
	late := c.since(time.Now().Add(-2500 * time.Millisecond))
	return len(late) >= 15 && !slices.ContainsFunc(late, func(a answer) bool { return a.body == "-" })
}
