package launcher

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"time"

	"boxrun/launcher/box"
	"boxrun/launcher/build"
	"boxrun/launcher/conf"
	"boxrun/launcher/health"
	"boxrun/launcher/limits"
	"boxrun/launcher/list"
	"boxrun/launcher/network"
	"boxrun/launcher/process"
	"boxrun/launcher/undone"
	"boxrun/launcher/units"
	"boxrun/profiles"
)

// Status is what boxrun ps shows of a box, and the first part of boxrun status.
type Status struct {
	Name     string       `json:"name"`
	State    string       `json:"state"` // running | starting | stopping | crashed | down
	Address  string       `json:"address"`
	Address6 string       `json:"address6,omitempty"`
	Second   string       `json:"lan_address,omitempty"`  // on a LAN beside the bridge
	LAN6     []string     `json:"lan_address6,omitempty"` // of IPv6 on a LAN
	Ports    []string     `json:"ports"`
	Started  time.Time    `json:"started,omitzero"`
	Image    string       `json:"image"`
	Profile  string       `json:"file"`
	PID      int          `json:"pid"` // PID of the box's init on the host; 0 if none runs
	Usage    limits.Usage `json:"usage"`
	Changed  []string     `json:"changed"` // what changed since the start of a running box: profile, image, secrets

	Health Health `json:"health"`

	Drift []string `json:"drift"` // what of a running box is out of place on the host; null where nobody looked

	Enabled  bool `json:"enabled"`  // a box of this name is started at boot
	Restarts int  `json:"restarts"` // systemd's starts of the box since somebody brought the box up
}

// Health is how a box is.
type Health struct {
	Word  string    `json:"word"` // healthy | unhealthy | not ready | drifted | degraded | busy; else the state: nobody looked
	Why   string    `json:"why"`
	Since time.Time `json:"since,omitzero"` // of healthy and unhealthy, where a timer has the box looked at
}

// Detail is what boxrun status shows of a box.
type Detail struct {
	Status
	Systemd  string                  `json:"systemd"` // as from systemctl is-system-running inside; or "none", or "unknown"
	Failed   []string                `json:"failed"`  // failed units
	Limits   profiles.ShownResources `json:"limits"`
	Security profiles.Security       `json:"security"` // as started
	Exposure []string                `json:"exposure"`

	Offload []string `json:"offload"` // why checksums of a running box's packets are not left to devices; none where they are

	Contested []string `json:"contested"` // servers of the host on published ports, which get nothing

	Undone []string `json:"undone"` // what others undo again and again after the watch has put it back, since when, how often, who

	Nameless string `json:"nameless"` // why names of others do not resolve in a running box; "" where the box has a name server

	AllowFrom []string `json:"allow_from"` // networks that may reach the ports; empty: anyone who can route to them

	ProfileNow string `json:"profile_now"` // of a running box, since the start: changed, limits, removed, invalid; "" for unchanged

	ImageNow   string `json:"image_now"`  // fate of the image since the start: replaced, removed; "" for none
	Definition string `json:"definition"` // why to build the image anew; "" for no reason or no [build]

	DefinitionUnread string `json:"definition_unread"` // why Definition is unknown; "" if known

	AtBoot string `json:"at_boot"` // file of the profile started at boot; "" for none

	GivenUp bool `json:"given_up"` // the host's systemd starts a crashed box no more, after too many starts

	HooksDue bool `json:"hooks_due"` // hooks.post_up has not run to its end since the start
}

// ListNames returns every box with a state file, by name. Of the status only the name is there. Unreadable state is an error,
// beside the other boxes.
func (l *Launcher) ListNames(context.Context) ([]Status, error) {
	boxes, unread := l.All()
	return list.Map(boxes, func(b *box.Box) Status { return Status{Name: b.Name} }), unread
}

// listed is a box in a list, with what the looks at it found so far.
type listed struct {
	Status
	looks health.Record
}

// listOf returns the status of boxes. The processors share the work.
func listOf(ctx context.Context, l *Launcher, boxes []*box.Box) []listed {
	enabled := list.Map(units.EnabledNames(), profiles.BoxName)
	return list.MapShared(boxes, func(b *box.Box) listed {
		r := health.Known(l.Store, b.Name)
		s := listed{statusOf(b, r), r}
		s.Enabled = slices.Contains(enabled, b.Name)
		if s.PID != 0 {
			s.Changed = ChangesOf(ctx, l.Store, b, NowOf(l.Store, b)).Words()
		}
		return s
	})
}

// List returns the status of every box with a state file, by name, with the drift of the running boxes, at which only root
// can look: for others the drift stays nil. The rules of the host are read once for all boxes, by a process for each family
// where rules changed since the last look of any boxrun. Of a box that cannot be looked at the drift stays nil, with a note.
// Unreadable state is an error, beside the status of the other boxes; when ctx ends, the error is its cause, beside nothing.
func (l *Launcher) List(ctx context.Context) ([]Status, error) {
	process.CollectLate()
	boxes, unread := l.All()
	process.Processors(len(boxes))
	found := listOf(ctx, l, boxes)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if l.Caller.Root {
		addDrift(ctx, l, boxes, unread, found)
	}
	return list.Map(found, func(s listed) Status { return s.Status }), unread
}

// addDrift adds the drift of running boxes to what is found of all boxes.
func addDrift(ctx context.Context, l *Launcher, boxes []*box.Box, unread error, found []listed) {
	var running []int
	for i, b := range boxes {
		if found[i].State == string(box.Running) {
			running = append(running, i)
			b.Foreseen = b.Bridged() // a look at its process is enough for all hosts files
		}
	}
	if len(running) == 0 {
		return
	}
	k, err := network.OpenKernel(l.Store)
	if err != nil {
		l.Notef("warning: whether boxes have drifted is unknown: %v", err)
		return
	}
	defer k.Close()
	survey := network.NewSurvey(l.Store, k, boxes, unread)
	defer survey.Close()
	survey.Look(list.Map(running, func(i int) *box.Box { return boxes[i] }))
	unknown := list.MapShared(running, func(i int) error {
		s := &found[i]
		var err error
		s.Drift, err = l.driftIn(survey, boxes[i])
		s.Health = healthNow(ctx, boxes[i], s.looks, s.Drift)
		return err
	})
	for at, i := range running {
		if unknown[at] != nil {
			l.Notef("warning: whether %s has drifted is unknown: %v", boxes[i].Name, unknown[at])
		}
	}
}

// healthNow returns how a running box is, as healthOf does. A box that is looked at no more healthNow looks at, as status does.
func healthNow(ctx context.Context, b *box.Box, r health.Record, drifted []string) Health {
	if r.Stopped(b, time.Now()) == "" {
		return healthOf(b, string(box.Running), r, drifted)
	}
	return healthBy(health.FactsSeen(b, health.LookAt(ctx, b), r, drifted), r)
}

// statusOf returns the part of a box's status known without a look at the profile, but for Enabled.
func statusOf(b *box.Box, r health.Record) Status {
	state := b.State()
	s := Status{
		Name: b.Name, State: state, Started: b.Started, Image: b.Profile.Image, Profile: b.Profile.File,
		Address: b.ShownAddress(), Address6: b.ShownAddress6(), Second: b.ShownSecond(), LAN6: b.ShownLAN6(), Ports: list.Map(b.Profile.Network.Ports, b.ShownPort),
		Restarts: b.Restarts, Changed: []string{},
	}
	s.Health = healthOf(b, state, r, nil)
	if state == string(box.Running) || b.Alive() {
		s.PID, s.Usage = b.Init.PID, limits.UsageOf(b)
	}
	return s
}

// healthOf returns how a box in a state is, as far as the record of looks, the cgroup of the box, and what drifted tell.
func healthOf(b *box.Box, state string, r health.Record, drifted []string) Health {
	f := health.FactsOf(b, state, r, time.Now())
	f.Drifted = drifted
	return healthBy(f, r)
}

// healthBy returns how a box is by the facts, and since when where the looks on record have found the same.
func healthBy(f health.Facts, r health.Record) Health {
	h := Health{Word: f.Word(), Why: f.Why()}
	if f.Known && h.Word == string(r.State) {
		h.Since = r.Since
	}
	return h
}

// Status returns the full status of a box. The error is ErrNotFound for an unknown box.
func (l *Launcher) Status(ctx context.Context, name string, now Now) (Detail, error) {
	b, err := l.Find(name)
	if err != nil {
		return Detail{}, err
	}
	d := Detail{
		Status: statusOf(b, health.Known(l.Store, b.Name)), Failed: []string{}, Contested: []string{}, Offload: []string{}, Undone: []string{},
		Limits: b.Profile.Resources.Shown(), Security: b.Profile.Security, Exposure: network.Exposure(b),
		AllowFrom: list.Map(b.Profile.Network.AllowFrom, netip.Prefix.String),
		ImageNow:  b.ImageNow(ctx), HooksDue: b.HooksDue, AtBoot: fileAtBoot(b.Name),
	}
	d.Drift, d.Enabled = []string{}, units.EnabledAs(b.Name) != ""
	if b.Alive() {
		c := ChangesOf(ctx, l.Store, b, now)
		d.Changed, d.ProfileNow = c.Words(), c.Profile
	}
	if now.Unread == nil {
		d.Definition, err = build.Outdated(ctx, &now.Profile)
	}
	switch {
	case ctx.Err() != nil:
		return d, cmp.Or(err, context.Cause(ctx))
	case err != nil: // the rest of the status is still worth showing
		d.DefinitionUnread = err.Error()
	}
	if d.State != string(box.Running) {
		d.GivenUp, err = givenUp(ctx, d.Status)
		return d, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	looks := make(chan health.Look, 1)
	go func() { looks <- health.LookAt(ctx, b) }() // meanwhile the host's network is looked at
	err = lookAround(l, b, &d)
	if !b.Alive() { // the box has ended meanwhile
		return l.Status(ctx, name, now)
	}
	if err != nil {
		return d, err
	}
	look := <-looks
	if ctx.Err() != nil {
		return d, context.Cause(ctx)
	}
	d.Systemd, d.Failed = look.State, look.Failed
	r, err := health.Load(l.Store, b.Name)
	d.Health = healthBy(health.FactsSeen(b, look, r, d.Drift), r)
	return d, err
}

// lookAround completes the status of a running box with what the host's network shows.
func lookAround(l *Launcher, b *box.Box, d *Detail) error {
	k, err := network.OpenKernel(l.Store)
	if err != nil {
		return err
	}
	defer k.Close()
	boxes, unread := l.All()
	survey := network.NewSurvey(l.Store, k, boxes, unread)
	defer survey.Close()
	if d.Drift, err = l.driftIn(survey, b); err != nil {
		return err
	}
	contested, err := network.Contested(b)
	if err != nil {
		return err
	}
	off, err := network.Offload(k, b)
	servers, serversErr := conf.LookResolvers(b.Profile)
	d.Undone = NonNil(undone.Lines(l.Store, b.Name, time.Now()))
	d.Contested, d.Offload, d.Nameless = NonNil(contested), NonNil(off), servers.Lack
	return cmp.Or(err, serversErr)
}

// fileAtBoot returns the file of the profile started at boot as the named box; "" if there is none, or the file is
// gone.
func fileAtBoot(box string) string {
	arg := units.EnabledAs(box)
	if arg == "" {
		return ""
	}
	ref, _ := profiles.OfHost().Find(arg) // zero if the file is gone
	return ref.File
}

// givenUp reports whether the host's systemd starts a box no more that is enabled and has crashed.
func givenUp(ctx context.Context, s Status) (bool, error) {
	if s.State != box.Crashed || !s.Enabled || !units.Booted() {
		return false, nil
	}
	return units.GivenUp(ctx, s.Name)
}
