package enter

import (
	"io"
	"time"
)

// listener knows how long a command has printed nothing. While somebody takes what was printed, no time passes. A nil
// listener never tires.
type listener struct {
	limit time.Duration
	timer *time.Timer
}

// newListener returns a listener that tires after limit; nil for 0.
func newListener(limit time.Duration) *listener {
	if limit == 0 {
		return nil
	}
	return &listener{limit, time.NewTimer(limit)}
}

// tired returns the channel for the moment when the command has printed nothing for too long.
func (l *listener) tired() <-chan time.Time {
	if l == nil {
		return nil
	}
	return l.timer.C
}

// hear returns w, and listens to what is written there.
func (l *listener) hear(w io.Writer) io.Writer {
	if l == nil {
		return w
	}
	return heard{w, l}
}

// heard is a writer with a listener.
type heard struct {
	to io.Writer
	by *listener
}

func (h heard) Write(p []byte) (int, error) {
	h.by.timer.Stop()
	defer h.by.timer.Reset(h.by.limit)
	return h.to.Write(p)
}
