package trace

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"time"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/list"
	"boxrun/launcher/network"
	"boxrun/launcher/say"
	"boxrun/netsetup/firewall"
)

// Query says which packets to trace, and for how long.
type Query struct {
	Port uint16        // published, or a port in the box; 0: all packets of the box
	For  time.Duration // 0: until the context ends
	// Probe makes one connection to the published port, as a client outside the host, and ends the trace after it.
	Probe bool
}

// Kind tells events apart.
type Kind string

// A Drop is the end of a packet. A Rule is a rule met by a packet on its way. A Probed is the end of the probe's
// attempt to connect.
const (
	Drop   Kind = "drop"
	Rule   Kind = "rule"
	Probed Kind = "probe"
)

// Event is something that happened to packets of the box.
type Event struct {
	Time   time.Time `json:"time"` // of the first packet
	Kind   Kind      `json:"kind"`
	Packet string    `json:"packet"`
	Reason string    `json:"reason,omitempty"` // of a drop: the kernel's word
	Text   string    `json:"text"`             // the rule, or why the packet died
	Fix    string    `json:"fix,omitempty"`    // the command that mends the cause
	Times  int       `json:"times"`            // number of packets, alike but for the client's port
}

// Run traces packets of a box until the time of the query is over, ctx ends or the box ends. No end is an error. show is
// called with each new event at once; Run returns all events with their final numbers. Where the kernel tells only
// drops or only rules, a note says so. However Run or the process ends, nothing of the trace is left.
func Run(ctx context.Context, s *box.Store, b *box.Box, q Query, show func(Event) error) (events []Event, err error) {
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
	t := newTracer(scope, b, show)
	p, err := t.prepareProbe(s, q)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	w, err := watchAll(s, t.filter())
	if err != nil {
		return nil, err
	}
	defer w.close()
	if w.steps != nil {
		t.readFor(b.Addrs()) // rules may be gone by the time they are told of
	}
	if err := noteRivals(s, b); err != nil {
		return nil, err
	}
	s.Notef("%s: tracing packets of %s", b.Name, say.Listed(list.Map(b.Addrs(), netip.Addr.String), 2))
	ctx, end := context.WithCancel(ctx)
	defer end()
	seen := w.sightings(ctx)
	if q.Probe {
		go func() { p.sight(ctx, seen); end() }()
	}
	err = t.follow(ctx, seen)
	if t.untold > 0 {
		s.Notef("%s: warning: %d packets were of more kinds than are told; a PORT makes it fewer", b.Name, t.untold)
	}
	if !b.Alive() {
		s.Notef("%s: the box has ended", b.Name)
	}
	return t.events, err
}

// noteRivals notes which rules of others keep packets from the box by what they say, as up and status do: such a rule may be for
// an interface by which no probe comes, or have connection tracking miss a packet that nobody drops.
func noteRivals(s *box.Store, b *box.Box) error {
	cautions, err := network.Rivals(firewall.Read, b)
	for _, c := range cautions {
		s.Notef("%s: warning: %s", b.Name, c.Text)
		s.Notef("hint: %s", c.Hint)
	}
	return err
}

// refuse returns why the packets of a box cannot be told from the packets of others; nil where they can.
func refuse(b *box.Box) error {
	switch {
	case !b.Alive():
		return fault.Refused(fmt.Sprintf("\"boxrun up %s\" brings it up again", b.Name), "%s: does not run, so no packets come", b.Name)
	case !b.Bridged():
		return fault.Refused("trace is for boxes on a bridge", "%s: has no address of its own (network.mode = %q)",
			b.Name, b.Profile.Network.Mode)
	}
	return nil
}

// tracer makes events of what was seen of packets.
type tracer struct {
	scope
	judge
	names
	show      func(Event) error
	events    []Event
	seen      map[string]int       // what makes packets alike, and the place in events
	held      []heldDrop           // drops by rules, in the order of time
	explained map[string]time.Time // packets that a step has told to be dropped
	untold    int                  // packets of further kinds
}

func newTracer(s scope, b *box.Box, show func(Event) error) *tracer {
	return &tracer{
		scope: s, judge: judge{b, b.Addrs(), s.host, symbols{}}, names: names{}, show: show,
		seen: map[string]int{}, explained: map[string]time.Time{},
	}
}

// heldDrop is a drop by a rule. The step with the name of the rule comes by another way, and may come later.
type heldDrop struct {
	drop
	until time.Time
}

// holdTime is how long a drop waits for its step.
const holdTime = 150 * time.Millisecond

// follow takes in sightings until ctx ends or the box ends, and then the sightings that wait.
func (t *tracer) follow(ctx context.Context, seen <-chan sighting) error {
	tick := time.NewTicker(holdTime / 3)
	defer tick.Stop()
	for t.Alive() {
		var err error
		select {
		case <-ctx.Done():
			return t.finish(seen)
		case now := <-tick.C:
			err = t.release(now)
		case s := <-seen:
			err = t.take(s)
		}
		if err != nil {
			return err
		}
	}
	return t.finish(seen)
}

// finish takes in the sightings that wait.
func (t *tracer) finish(seen <-chan sighting) error {
	for {
		select {
		case s := <-seen:
			if err := t.take(s); err != nil {
				return err
			}
		default:
			return t.release(time.Now().Add(holdTime))
		}
	}
}

// take makes events of a sighting.
func (t *tracer) take(s sighting) error {
	if s.event != nil {
		return t.tell(string(s.event.Kind)+s.event.Packet, func() Event { return *s.event })
	}
	return errors.Join(s.err, t.takeDrop(s.drop), t.takeSteps(s.steps))
}

// takeDrop makes an event of a drop, or holds the drop.
func (t *tracer) takeDrop(d *drop) error {
	switch {
	case d == nil, !t.covers(d.packet), !t.inside(d.namespace), t.ordinary(*d):
		return nil
	}
	d.inBox = d.namespace == t.in
	if d.reason == netfilterDrop {
		t.held = append(t.held, heldDrop{*d, time.Now().Add(holdTime)})
		return nil
	}
	return t.tell(fmt.Sprint(d.reason, d.where, d.like()), func() Event { return t.dropped(*d) })
}

// release makes events of the drops held until now, unless a step has told of the packet.
func (t *tracer) release(now time.Time) error {
	for len(t.held) > 0 && !t.held[0].until.After(now) {
		d := t.held[0].drop
		t.held = t.held[1:]
		if _, told := t.explained[d.String()]; told {
			continue
		}
		if err := t.tell(d.reason+d.like(), func() Event { return t.dropped(d) }); err != nil {
			return err
		}
	}
	maps.DeleteFunc(t.explained, func(_ string, told time.Time) bool { return now.Sub(told) > time.Second })
	return nil
}

// takeSteps makes events of the rules met by packets.
func (t *tracer) takeSteps(steps []step) error {
	for _, s := range steps {
		if !t.covers(s.packet) {
			continue
		}
		rule := t.of(s)
		like := rule + s.like()
		if err := t.tell(like, func() Event { return t.met(s, rule) }); err != nil {
			return err
		}
		if i, told := t.seen[like]; told && s.verdict == nfDrop { // packets alike are counted, marked or not
			t.explained[s.String()] = time.Now()
			t.seen[netfilterDrop+s.like()] = i
		}
	}
	return nil
}

// maxEvents limits the kinds of events. A host that is flooded has no end of them.
const maxEvents = 2000

// tell shows a new event, or counts a packet where there is an event for like.
func (t *tracer) tell(like string, event func() Event) error {
	if i, ok := t.seen[like]; ok {
		t.events[i].Times++
		return nil
	}
	if len(t.events) >= maxEvents {
		t.untold++
		return nil
	}
	t.seen[like] = len(t.events)
	t.events = append(t.events, event())
	return t.show(t.events[len(t.events)-1])
}
