package trace

import (
	"context"
	"errors"
	"os"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
)

// sighting is what the kernel told, a drop or steps, or what became of the probe.
type sighting struct {
	drop  *drop
	steps []step
	event *Event
	err   error
}

// watches are the ways to hear of packets. A way unknown to this kernel is nil.
type watches struct {
	drops *dropWatch
	steps *stepWatch
}

// watchAll opens both watches, and notes why a watch is missing. Without any watch there is an error.
func watchAll(s *box.Store, f filter) (watches, error) {
	var w watches
	var noDrops, noSteps error
	w.drops, noDrops = watchDrops(f)
	w.steps, noSteps = watchSteps(f)
	switch {
	case noDrops != nil && noSteps != nil:
		return w, fault.Refused("boxrun doctor looks at rules without a packet", "nothing can be traced: %v; %v", noDrops, noSteps)
	case noDrops != nil:
		s.Notef("only rules are shown: %v", noDrops)
	case noSteps != nil:
		s.Notef("only drops are shown: %v", noSteps)
	}
	return w, nil
}

func (w watches) close() {
	if w.drops != nil {
		w.drops.close()
	}
	if w.steps != nil {
		w.steps.close()
	}
}

// backlog is how many sightings may wait while the tracer looks up rules.
const backlog = 1024

// sightings returns what the watches hear, until ctx ends or close.
func (w watches) sightings(ctx context.Context) chan sighting {
	seen := make(chan sighting, backlog)
	if w.drops != nil {
		go forward(ctx, seen, func() (sighting, error) {
			d, err := w.drops.next()
			return sighting{drop: &d}, err
		})
	}
	if w.steps != nil {
		go forward(ctx, seen, func() (sighting, error) {
			steps, err := w.steps.next()
			return sighting{steps: steps}, err
		})
	}
	return seen
}

// forward sends what next returns to seen, until next fails. Only the failure of a closed watch is expected.
func forward(ctx context.Context, seen chan<- sighting, next func() (sighting, error)) {
	for {
		s, err := next()
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil {
			s = sighting{err: err}
		}
		select {
		case seen <- s:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}
