package launcher

import (
	"context"
	"time"

	"boxrun/launcher/box"
	"boxrun/launcher/build"
	"boxrun/launcher/conf"
	"boxrun/launcher/guest"
	"boxrun/launcher/limits"
	"boxrun/launcher/network"
	"boxrun/launcher/units"
	"boxrun/profiles"
)

// Status is what boxrun ps tells of a box, and boxrun status in full.
type Status struct {
	Name    string       `json:"name"`
	State   string       `json:"state"` // running | starting | stopping | crashed | down
	Address string       `json:"address"`
	Ports   []string     `json:"ports"`
	Started time.Time    `json:"started,omitzero"`
	Image   string       `json:"image"`
	Profile string       `json:"profile"`
	PID     int          `json:"pid"` // of the box's init, as the host counts; 0 where none runs
	Usage   limits.Usage `json:"usage"`
	Changed []string     `json:"changed"` // of a box that runs, what is not as it was at the start: profile, image, secrets

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
	boxes, err := l.All()
	list := make([]Status, len(boxes))
	for i, b := range boxes {
		list[i] = statusOf(b)
		if p, err := b.Profile.Ref().Read(); err == nil {
			list[i].Changed = l.changed(b, &p)
		}
	}
	return list, err
}

func statusOf(b *box.Box) Status {
	s := Status{
		Name: b.Name, State: b.State(), Started: b.Started, Image: b.Profile.Image, Profile: b.Profile.File,
		Address: b.ShownAddress(), Ports: make([]string, len(b.Profile.Network.Ports)),
		Enabled: units.EnabledAs(b.Name) != "", Restarts: b.Restarts, Changed: []string{},
	}
	for i, p := range b.Profile.Network.Ports {
		s.Ports[i] = b.ShownPort(p)
	}
	if b.Alive() {
		s.PID, s.Usage = b.Init.PID, limits.UsageOf(b)
	}
	return s
}

// Status gives one box in full. now is the profile as it is now, nil where it cannot be read. ErrNotFound where there is
// no such box.
func (l *Launcher) Status(ctx context.Context, name string, now *profiles.Profile) (Detail, error) {
	b, err := l.Find(name)
	if err != nil {
		return Detail{}, err
	}
	d := Detail{
		Status: statusOf(b), Failed: []string{}, Drift: []string{}, Limits: b.Profile.Resources, Exposure: network.Exposure(b),
		ImageNow: b.ImageNow(), HooksDue: b.HooksDue, AtBoot: fileAtBoot(b.Name),
	}
	d.Changed = l.changed(b, now)
	d.Definition, err = build.Outdated(ctx, now)
	switch {
	case err != nil && ctx.Err() != nil:
		return d, err
	case err != nil: // no reason to say nothing of the box
		d.DefinitionUnread = err.Error()
	}
	if d.State != string(box.Running) {
		return d, nil
	}
	k, err := network.OpenKernel()
	if err != nil {
		return d, err
	}
	defer k.Close()
	drift, err := network.Drift(l.Store, k, b)
	if err != nil {
		return d, err
	}
	limits, err := limits.Ahead(l.Store, b, now)
	if err != nil {
		return d, err
	}
	d.Drift = append(append(d.Drift, drift...), limits...)
	d.Systemd, d.Failed, err = guest.Inside(ctx, b.Init.PID)
	return d, err
}

// fileAtBoot gives the file of the profile that is started at boot as the box named; "" for none, or where it is gone.
func fileAtBoot(box string) string {
	arg := units.EnabledAs(box)
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
func (l *Launcher) changed(b *box.Box, now *profiles.Profile) []string {
	words := []string{}
	if !b.Alive() {
		return words
	}
	if now != nil && !limits.MadeOf(l.Store, b, *now) {
		words = append(words, "profile")
	}
	if b.ImageNow() != "" {
		words = append(words, "image")
	}
	if now != nil && len(conf.ChangedSecrets(l.Store, *now)) > 0 {
		words = append(words, "secrets")
	}
	return words
}
