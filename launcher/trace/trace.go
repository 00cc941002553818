package trace

import (
	"context"
	"time"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
)

// Query says which packets to trace, and for how long.
type Query struct {
	Port uint16        // published, or a port in the box; 0: all packets of the box
	For  time.Duration // 0: until the context ends
}

// Event is something that happened to packets of the box.
type Event struct {
	Time   time.Time `json:"time"` // of the first packet
	Packet string    `json:"packet"`
	Reason string    `json:"reason,omitempty"` // of a drop: the kernel's word
	Text   string    `json:"text"`             // what happened, in words
	Fix    string    `json:"fix,omitempty"`    // the command that mends it
	Times  int       `json:"times"`            // how many packets, alike but for a client's port
}

// Run traces packets of a box that is up, until the time of the query is over or ctx ends, neither of which is an
// error. show is called with each new event at once; Run returns all of them with how often they happened. Nothing of
// the trace is left when Run returns, or the process ends in another way.
func Run(ctx context.Context, s *box.Store, b *box.Box, q Query, show func(Event) error) ([]Event, error) {
	if err := refuse(b); err != nil {
		return nil, err
	}
	if q.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, q.For)
		defer cancel()
	}
	scope, err := newScope(b, q.Port)
	if err != nil {
		return nil, err
	}
	t := &tracer{scope: scope, judge: judge{b}, show: show, seen: map[string]int{}}
	seen := make(chan sighting)
	stop, err := t.watch(ctx, s, seen)
	if err != nil {
		return nil, err
	}
	defer stop()
	s.Notef("%s: tracing packets of %s", b.Name, b.Addr)
	return t.events, t.follow(ctx, seen)
}

// refuse returns why the packets of a box cannot be told from those of others; nil where they can.
func refuse(b *box.Box) error {
	switch {
	case !b.Alive():
		return fault.Refused("boxrun up "+b.Name, "%s: does not run, so it gets no packets", b.Name)
	case !b.Bridged():
		return fault.Refused("trace is for boxes on a bridge", "%s: has no address of its own (network.mode = %q)", b.Name, b.Profile.Network.Mode)
	}
	return nil
}

// A sighting is a packet seen to die.
type sighting = drop

// tracer collects what was seen of packets into events.
type tracer struct {
	scope
	judge  judge
	show   func(Event) error
	events []Event
	seen   map[string]int // by what makes sightings alike: the place in events
}

// watch begins to watch, and returns what ends it.
func (t *tracer) watch(ctx context.Context, s *box.Store, seen chan<- sighting) (stop func(), err error) {
	drops, err := watchDrops(t.filter())
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			d, err := drops.next()
			if err != nil {
				return
			}
			select {
			case seen <- d:
			case <-ctx.Done():
				return
			}
		}
	}()
	return drops.close, nil
}

// follow takes in sightings until ctx ends.
func (t *tracer) follow(ctx context.Context, seen <-chan sighting) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case d := <-seen:
			if err := t.take(d); err != nil {
				return err
			}
		}
	}
}

// take makes a drop an event, or counts it where an event tells of one alike.
func (t *tracer) take(d drop) error {
	if !t.covers(d.packet) || !t.inside(d.namespace) || ordinary(d.reason) {
		return nil
	}
	like := d.reason + " " + d.where + " " + d.packet.like()
	if i, ok := t.seen[like]; ok {
		t.events[i].Times++
		return nil
	}
	e := t.judge.dropped(d)
	t.seen[like] = len(t.events)
	t.events = append(t.events, e)
	return t.show(e)
}
