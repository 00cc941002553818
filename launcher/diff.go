package launcher

import (
	"context"
	"slices"
	"strings"

	"boxrun/launcher/box"
	"boxrun/launcher/build"
	"boxrun/launcher/conf"
	"boxrun/launcher/limits"
	"boxrun/launcher/network"
	"boxrun/profiles"
)

// Diff is how a running box differs from what it would be if its profile were brought up now. It is empty where it does not.
type Diff struct {
	Name       string            `json:"name"`
	Profile    []profiles.Change `json:"profile"`
	Secrets    []string          `json:"secrets"`    // names of those whose files have changed
	Image      string            `json:"image"`      // what has become of the image since the start: replaced, removed; "" for nothing
	Definition string            `json:"definition"` // why the image should be built anew; "" where it should not
	Drift      []string          `json:"drift"`      // what is out of place on the host
}

// Diff compares the box with the profile as it is now. ErrNotFound where there is no such box.
func (l *Launcher) Diff(ctx context.Context, name string, now profiles.Profile) (Diff, error) {
	b, err := l.Find(name)
	if err != nil {
		return Diff{}, err
	}
	d := Diff{Name: b.Name, Secrets: NonNil(conf.ChangedSecrets(l.Store, now)), Image: b.ImageNow(), Drift: []string{}}
	if d.Profile, err = l.profileChanges(b, now); err != nil {
		return d, err
	}
	if d.Definition, err = build.Outdated(ctx, &now); err != nil || !b.Alive() {
		return d, err
	}
	d.Drift, err = l.driftOf(b)
	return d, err
}

// driftOf gives all that is out of place of a box that runs: rules and limits.
func (l *Launcher) driftOf(b *box.Box) ([]string, error) {
	k, err := network.OpenKernel()
	if err != nil {
		return nil, err
	}
	defer k.Close()
	lines, err := network.Drift(l.Store, k, b)
	if err != nil {
		return nil, err
	}
	limits, err := limits.Drift(b)
	return append(NonNil(lines), limits...), err
}

// profileChanges gives the keys whose values have changed since the start. That values of variables have is all that is told
// of those.
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

// NonNil gives the list, not nil, for JSON.
func NonNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
