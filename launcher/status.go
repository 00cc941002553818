package launcher

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"boxrun/profiles"
)

// Status is what boxrun ps tells of a box, and boxrun status in full.
type Status struct {
	Name    string    `json:"name"`
	State   string    `json:"state"` // running | starting | stopping | crashed | down
	Address string    `json:"address"`
	Ports   []string  `json:"ports"`
	Started time.Time `json:"started,omitzero"`
	Image   string    `json:"image"`
	Profile string    `json:"profile"`
	PID     int       `json:"pid"` // of the box's init, as the host counts; 0 where none runs
	Usage   Usage     `json:"usage"`
	Changed []string  `json:"changed"` // of a box that runs, what is not as it was at the start: profile, image, secrets

	Enabled  bool `json:"enabled"`  // a box of the name is started at boot
	Restarts int  `json:"restarts"` // how often systemd has started it anew since it was brought up
}

// Detail is all that boxrun status tells of a box that runs.
type Detail struct {
	Status
	Systemd  string             `json:"systemd"` // what systemctl is-system-running says inside; "none" without a systemd
	Failed   []string           `json:"failed"`  // failed units
	Limits   profiles.Resources `json:"limits"`
	Drift    []string           `json:"drift"` // what is out of place on the host; empty: all rules and limits in place
	Exposure []string           `json:"exposure"`

	ImageNow   string `json:"image_now"`  // what has become of the image since the start: replaced, removed; "" for nothing
	Definition string `json:"definition"` // why the image should be built anew; "" where it should not, or there is no [build]

	DefinitionUnread string `json:"definition_unread"` // why nobody can tell whether it should; "" where one can

	AtBoot string `json:"at_boot"` // file of the profile that is started at boot; "" for none

	HooksDue bool `json:"hooks_due"` // hooks.post_up has not run to its end since the start
}

// List gives the status of every box there is state of, by name. It starts no process and reads no kernel tables.
// What cannot be read is an error, beside the status of the others; a profile that cannot be read has not changed.
func (l *Launcher) List() ([]Status, error) {
	boxes, err := l.boxes()
	list := make([]Status, len(boxes))
	for i, b := range boxes {
		list[i] = b.status()
		if p, err := b.Profile.Ref().Read(); err == nil {
			list[i].Changed = l.changed(b, &p)
		}
	}
	return list, err
}

func (b *Box) status() Status {
	s := Status{
		Name: b.Name, State: b.state(), Started: b.Started, Image: b.Profile.Image, Profile: b.Profile.File,
		Address: b.shownAddress(), Ports: make([]string, len(b.Profile.Network.Ports)),
		Enabled: EnabledAs(b.Name) != "", Restarts: b.Restarts, Changed: []string{},
	}
	for i, p := range b.Profile.Network.Ports {
		s.Ports[i] = b.shownPort(p)
	}
	if b.alive() {
		s.PID, s.Usage = b.Init.PID, b.usage()
	}
	return s
}

// Status gives one box in full. now is the profile as it is now, nil where it cannot be read. ErrNotFound where there is
// no such box.
func (l *Launcher) Status(ctx context.Context, name string, now *profiles.Profile) (Detail, error) {
	b, err := l.find(name)
	if err != nil {
		return Detail{}, err
	}
	d := Detail{
		Status: b.status(), Failed: []string{}, Drift: []string{}, Limits: b.Profile.Resources, Exposure: b.Exposure(),
		ImageNow: b.imageNow(), HooksDue: b.HooksDue, AtBoot: fileAtBoot(b.Name),
	}
	d.Changed = l.changed(b, now)
	d.Definition, err = definitionNow(ctx, now)
	switch {
	case err != nil && ctx.Err() != nil:
		return d, err
	case err != nil: // no reason to say nothing of the box
		d.DefinitionUnread = err.Error()
	}
	if d.State != string(Running) {
		return d, nil
	}
	k, err := openKernel()
	if err != nil {
		return d, err
	}
	defer k.Close()
	drift, err := l.drift(k, b)
	if err != nil {
		return d, err
	}
	limits, err := l.limitsAhead(b, now)
	if err != nil {
		return d, err
	}
	d.Drift = append(append(d.Drift, drift...), limits...)
	d.Systemd, d.Failed, err = inside(ctx, b.Init.PID)
	return d, err
}

// fileAtBoot gives the file of the profile that is started at boot as the box named; "" for none, or where it is gone.
func fileAtBoot(box string) string {
	arg := EnabledAs(box)
	if arg == "" {
		return ""
	}
	ref, err := profiles.OfHost().Find(arg)
	if err != nil {
		return ""
	}
	return ref.File
}

// changed names what of a running box is not as it was at its start. now is the profile, nil where it is not known.
func (l *Launcher) changed(b *Box, now *profiles.Profile) []string {
	words := []string{}
	if !b.alive() {
		return words
	}
	if now != nil && !l.madeOf(b, *now) {
		words = append(words, "profile")
	}
	if b.imageNow() != "" {
		words = append(words, "image")
	}
	if now != nil && len(l.changedSecrets(*now)) > 0 {
		words = append(words, "secrets")
	}
	return words
}

// inside asks the box's systemd how it is and which units failed.
func inside(ctx context.Context, pid int) (state string, failed []string, err error) {
	s, err := dialSystemd(ctx, pid)
	if errors.Is(err, errNoSystemd) {
		return "none", []string{}, nil
	}
	if err != nil {
		return "", nil, err
	}
	defer s.Close()
	if state, err = s.State(ctx); err != nil {
		return "", nil, err
	}
	failed, err = s.Failed(ctx)
	return state, failed, err
}

// Exposure says of each port who can reach it.
func (b *Box) Exposure() []string {
	n := b.Profile.Network
	lines := make([]string, len(n.Ports))
	for i, p := range n.Ports {
		if !b.bridged() {
			lines[i] = b.shownPort(p) + " in the host's own network: the host's firewall decides who reaches it"
			continue
		}
		lines[i] = p.String() + " " + exposedTo(n.External, p.HostIP.IsValid(), p.HostIP.IsLoopback(), len(n.AllowFrom) > 0)
	}
	return lines
}

func exposedTo(external string, bound, loopback, restricted bool) string {
	where := "on ALL addresses of the host"
	switch {
	case loopback:
		return "from this host only"
	case bound:
		where = "on that address"
	case external != "":
		where = "on the addresses of " + external
	}
	if restricted {
		return where + ", for allow_from only"
	}
	return where + ", for anyone who can route to it"
}

// find gives the state of a box, or ErrNotFound with a guess at what was meant and a hint.
func (s *Store) find(name string) (*Box, error) {
	b, err := s.load(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &Problem{Kind: ErrNotFound, Text: fmt.Sprintf("box %q is not up%s", name, s.DidYouMean(name)),
			Hint: "\"boxrun ps -a\" lists boxes and profiles"}
	}
	return b, err
}

// DidYouMean gives a guess at the box or profile that was meant by a name that no box has, to stand behind an error; "" where
// none is near.
func (s *Store) DidYouMean(name string) string {
	boxes, _ := s.boxes() // beside an error it gives what could be read
	return s.Search.DidYouMean(name, nameList(boxes)...)
}
