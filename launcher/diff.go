package launcher

import (
	"context"
	"slices"
	"strings"

	"boxrun/launcher/box"
	"boxrun/launcher/build"
	"boxrun/launcher/conf"
	"boxrun/launcher/limits"
	"boxrun/launcher/machine"
	"boxrun/launcher/network"
	"boxrun/profiles"
)

// Diff lists the differences between a running box and a box started now from its profile. All fields but Name are
// empty where there are none.
type Diff struct {
	Name       string            `json:"name"`
	Profile    []profiles.Change `json:"profile"`
	Secrets    []string          `json:"secrets"`    // names of secrets with changed files
	Image      string            `json:"image"`      // change of the image since the start: replaced, removed; "" for none
	Definition string            `json:"definition"` // the reason to build the image anew; "" for none
	Drift      []string          `json:"drift"`      // what is out of place on the host
}

// Diff compares the box with now, the profile as it is on the disk. The drift of the host is looked at only for a box
// that is up. The error is ErrNotFound where there is no such box.
func (l *Launcher) Diff(ctx context.Context, name string, now profiles.Profile) (Diff, error) {
	b, err := l.Find(name)
	if err != nil {
		return Diff{}, err
	}
	d := Diff{Name: b.Name, Secrets: NonNil(conf.ChangedSecrets(ctx, l.Store, now)), Image: b.ImageNow(ctx), Drift: []string{}}
	if ctx.Err() != nil {
		return d, context.Cause(ctx)
	}
	if d.Profile, err = l.profileChanges(b, now); err != nil {
		return d, err
	}
	if d.Definition, err = build.Outdated(ctx, &now); err != nil || !b.Alive() {
		return d, err
	}
	d.Drift, err = l.driftOf(b)
	return d, err
}

// driftOf returns a line for everything out of place in a running box: what it needs of the host, and its limits by the
// profile of the start.
func (l *Launcher) driftOf(b *box.Box) ([]string, error) {
	k, err := network.OpenKernel(l.Store)
	if err != nil {
		return nil, err
	}
	defer k.Close()
	boxes, unread := l.All()
	survey := network.NewSurvey(l.Store, k, boxes, unread)
	defer survey.Close()
	return l.driftIn(survey, b)
}

// driftIn is driftOf in a survey of all boxes. Of a box that ends meanwhile there is nothing to tell.
func (l *Launcher) driftIn(v *network.Survey, b *box.Box) ([]string, error) {
	lines, err := v.Drift(b)
	switch {
	case err != nil && !b.Alive():
		return []string{}, nil
	case err != nil:
		return nil, err
	}
	limits, err := limits.Drift(b)
	return NonNil(slices.Concat(lines, l.EntryDrift(b), machine.Drift(b), looksDrift(l.Store, b), limits)), err
}

// profileChanges returns the keys with changed values since the start. For environment variables the change says only
// that values differ, and shows no values.
func (l *Launcher) profileChanges(b *box.Box, now profiles.Profile) ([]profiles.Change, error) {
	changes, err := profiles.Changes(b.Profile, now)
	if err != nil {
		return nil, err
	}
	const table = "systemd.environment"
	named := func(c profiles.Change) bool { return strings.HasPrefix(c.Key, table+".") }
	if conf.ChangedEnvironment(l.Store, now) && !slices.ContainsFunc(changes, named) {
		changes = append(changes, profiles.Change{Key: table, How: "changed"})
	}
	return NonNil(changes), nil
}

// NonNil returns the list, or an empty list for nil: JSON would show nil as null.
func NonNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
