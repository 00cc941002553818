package network

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"boxrun/launcher/box"
	"boxrun/launcher/conf"
	"boxrun/launcher/fault"
	"boxrun/launcher/lan"
	"boxrun/launcher/passage"
	"boxrun/netsetup"
	"boxrun/netsetup/firewall"
	"boxrun/netsetup/led"
	"boxrun/profiles"
)

// A Survey asks of boxes whether everything that each needs of the host is in place: its network, the names it knows of
// others, its name servers. What boxes share is looked at once. Several goroutines may ask at once. A Survey changes
// nothing, and lasts as long as its Kernel does without a Reread. Close a Survey after use.
type Survey struct {
	store  *box.Store
	boxes  []*box.Box
	unread error                    // of the records of boxes
	seen   map[string]netsetup.Seen // by name of a box
	led    led.Host

	mu        sync.Mutex // holds all below
	kernel    *netsetup.Kernel
	shared    map[string][]string          // by bridge: the faults in what its boxes share
	externals map[string]netsetup.External // by network.external
	said      map[string][]fault.Caution   // by what was looked at, see once
	rivals    map[bool]firewall.State      // by whether of IPv6 as well
}

// NewSurvey begins a survey. Boxes and unread are all records of the store, as [box.Store.All] returns them.
func NewSurvey(s *box.Store, k *netsetup.Kernel, boxes []*box.Box, unread error) *Survey {
	v := &Survey{store: s, kernel: k, boxes: boxes, unread: unread,
		shared: map[string][]string{}, externals: map[string]netsetup.External{},
		said: map[string][]fault.Caution{}, seen: map[string]netsetup.Seen{}, rivals: map[bool]firewall.State{}}
	for _, b := range v.boxes {
		b.Foreseen = conf.Named(b) // the look at each process is for all hosts files
	}
	return v
}

// Close closes what the survey has opened.
func (v *Survey) Close() { v.led.Close() }

// Look looks into the networks of boxes side by side, for Drift of each of them.
func (v *Survey) Look(boxes []*box.Box) {
	bridged := slices.DeleteFunc(slices.Clone(boxes), func(b *box.Box) bool { return !b.Bridged() })
	for i, seen := range look(&v.led, bridged...) {
		v.seen[bridged[i].Name] = seen
	}
}

// seenIn returns what a look into the network of the box has seen, that of Look or one of now.
func (v *Survey) seenIn(b *box.Box) netsetup.Seen {
	if seen, known := v.seen[b.Name]; known {
		return seen
	}
	return look(&v.led, b)[0]
}

// Drift returns every fault in what the box needs of the host.
func (v *Survey) Drift(b *box.Box) ([]string, error) {
	var all []string
	if b.Bridged() {
		var err error
		if all, err = v.rules(b); err != nil {
			return all, err
		}
		names, err := v.names(b)
		if all = append(all, names); err != nil {
			return nonEmpty(all), err
		}
	}
	if b.OnLAN() {
		v.mu.Lock()
		lines, err := lan.Drift(v.kernel, b)
		v.mu.Unlock()
		if b.Bridged() && errors.Is(err, netsetup.ErrNoAddress) { // the bridge still leads to the box
			lines, err = []string{fmt.Sprintf("%v: %s", err, fault.HintOf(err))}, nil
		}
		if all = append(all, lines...); err != nil {
			return all, err
		}
	}
	servers, err := conf.ServersDrift(v.store, b)
	return nonEmpty(append(all, servers)), err
}

func nonEmpty(lines []string) []string {
	return slices.DeleteFunc(lines, func(line string) bool { return line == "" })
}

// rules returns the faults in the plans behind a box on a bridge, and in what of the host's own is in their way.
func (v *Survey) rules(b *box.Box) ([]string, error) {
	seen := v.seenIn(b)
	moved, err := moved(v.store, b, seen)
	if p := new(fault.Problem); errors.As(err, &p) && errors.Is(err, netsetup.ErrNoAddress) {
		moved, err = "the box"+strings.TrimPrefix(p.Text, b.Name)+": "+p.Hint, nil
	}
	if err != nil {
		return nil, err
	}
	v.mu.Lock()
	shared, err := v.ofBridge(b)
	own, ownErr := b.Ports.Drift(v.kernel)
	external, externalErr := v.external(b.Profile.Network)
	out, outErr := v.external(profiles.Network{})
	v.mu.Unlock()
	inside := seen.DriftErr
	if errors.Is(inside, netsetup.ErrNoAddress) { // as moved says
		inside = nil
	}
	if err := cmp.Or(err, ownErr, inside, externalErr, outErr); err != nil {
		return nil, err
	}
	held, err := mistaken(&v.led, b, seen)
	if err != nil {
		return nil, err
	}
	lines := slices.Concat([]string{moved}, shared, own, seen.Drift, held)
	if len(nonEmpty(slices.Clone(lines))) == 0 { // else the cause is named
		if lines, err = v.led.Lost(b.Profile.Network.Bridge, b.Addrs()...); err != nil {
			return nil, err
		}
	}
	said, err := v.obstacles(b, external, out)
	for _, c := range said {
		lines = append(lines, c.Text+": "+c.Hint)
	}
	return lines, err
}

// mistaken returns a line for each address of a box that somebody has told the host another MAC for.
func mistaken(h *led.Host, b *box.Box, seen netsetup.Seen) ([]string, error) {
	if seen.LinkErr != nil {
		return nil, nil // moved tells of that
	}
	return h.Mistaken(b.Profile.Network.Bridge, seen.Link.MAC, b.Addrs()...)
}

// Misled returns a line for each neighbour that keeps the host's own packets from a box, and what only a person mends.
func Misled(b *box.Box) (held []string, lost []led.Detour, err error) {
	h := new(led.Host)
	held, err = mistaken(h, b, look(h, b)[0])
	lost, lostErr := led.Astray(b.Profile.Network.Bridge, b.Addrs()...)
	return held, lost, cmp.Or(err, lostErr)
}

// obstacles is Obstacles, with what boxes have in common looked up once, and what of rules of others is in the way of the box.
func (v *Survey) obstacles(b *box.Box, external, out netsetup.External) ([]fault.Caution, error) {
	said, err := obstacles(b, external, out, v.once)
	cut, cutErr := v.cut(b, external)
	return append(said, cut...), cmp.Or(err, cutErr)
}

// cut returns the cautions about rules of others that keep packets from a box.
func (v *Survey) cut(b *box.Box, external netsetup.External) ([]fault.Caution, error) {
	v.mu.Lock()
	six := b.Addr6().IsValid()
	rivals, known := v.rivals[six]
	var err error
	if !known {
		if rivals, err = v.kernel.Rivals(six); err == nil {
			v.rivals[six] = rivals
		}
	}
	v.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return passage.Cautions(rivals, b, external, netsetup.LookFirewalld)
}

// once returns what look finds, looked up once for each name.
func (v *Survey) once(name string, look func() ([]fault.Caution, error)) ([]fault.Caution, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if said, known := v.said[name]; known {
		return said, nil
	}
	said, err := look()
	if err == nil {
		v.said[name] = said
	}
	return said, err
}

// external is External, looked up once for each name.
func (v *Survey) external(n profiles.Network) (netsetup.External, error) {
	if e, known := v.externals[n.External]; known {
		return e, nil
	}
	e, err := External(n)
	if err == nil {
		v.externals[n.External] = e
	}
	return e, err
}

// ofBridge returns the faults in what all boxes on the bridge of b share.
func (v *Survey) ofBridge(b *box.Box) ([]string, error) {
	bridge := b.Profile.Network.Bridge
	if lines, known := v.shared[bridge]; known {
		return lines, nil
	}
	plans, err := sharedPlans(v.store, v.kernel, b)
	if errors.Is(err, box.ErrUnreadable) {
		return []string{err.Error()}, nil
	}
	if err != nil {
		return nil, err
	}
	var all []string
	for _, plan := range plans {
		lines, err := plan.Drift(v.kernel)
		if err != nil {
			return nil, err
		}
		all = append(all, lines...)
	}
	if err := v.kernel.Overlap(Of(v.store, b)); err != nil {
		all = append(all, err.Error())
	}
	v.shared[bridge] = all
	return all, nil
}

// names returns the line for a hosts file that does not name the boxes as they are; where a record is unread, the line says
// so.
func (v *Survey) names(b *box.Box) (string, error) {
	if errors.Is(v.unread, box.ErrUnreadable) {
		return v.unread.Error(), nil
	}
	if v.unread != nil {
		return "", v.unread
	}
	return conf.NamesDrift(v.store, b, v.boxes)
}

// PlansOf returns the plans a box needs on the host by now, in the order of work; none for a box without a bridge.
func PlansOf(s *box.Store, k *netsetup.Kernel, b *box.Box) ([]netsetup.Plan, error) {
	if !b.Bridged() {
		return nil, nil
	}
	plans, err := sharedPlans(s, k, b)
	if err != nil {
		return nil, err
	}
	return append(plans, b.Ports), nil
}

// sharedPlans returns the plans that all boxes on the bridge of b need on the host by now.
func sharedPlans(s *box.Store, k *netsetup.Kernel, b *box.Box) ([]netsetup.Plan, error) {
	var plans []netsetup.Plan
	for _, shared := range SharedPlans(s, Of(s, b)) {
		plan, err := ReadPlan(shared.File)
		if err == nil {
			plan, _, err = plan.Renewed(k, shared.Plan)
		}
		if err != nil {
			return nil, err
		}
		plans = append(plans, plan)
	}
	return plans, nil
}
