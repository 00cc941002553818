package launcher

import (
	"context"
	"slices"
	"strings"

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
	b, err := l.find(name)
	if err != nil {
		return Diff{}, err
	}
	d := Diff{Name: b.Name, Secrets: nonNil(l.changedSecrets(now)), Image: b.imageNow(), Drift: []string{}}
	if d.Profile, err = l.profileChanges(b, now); err != nil {
		return d, err
	}
	if d.Definition, err = definitionNow(ctx, &now); err != nil || !b.alive() {
		return d, err
	}
	d.Drift, err = l.driftOf(b)
	return d, err
}

// driftOf gives all that is out of place of a box that runs: rules and limits.
func (l *Launcher) driftOf(b *Box) ([]string, error) {
	k, err := openKernel()
	if err != nil {
		return nil, err
	}
	defer k.Close()
	lines, err := l.drift(k, b)
	if err != nil {
		return nil, err
	}
	limits, err := b.limitsDrift()
	return append(nonNil(lines), limits...), err
}

// profileChanges gives the keys whose values have changed since the start. That values of variables have is all that is told
// of those.
func (l *Launcher) profileChanges(b *Box, now profiles.Profile) ([]profiles.Change, error) {
	changes, err := profiles.Changes(b.Profile, now)
	if err != nil {
		return nil, err
	}
	const table = "systemd.environment"
	named := func(c profiles.Change) bool { return strings.HasPrefix(c.Key, table+".") }
	if l.changedEnvironment(now) && !slices.ContainsFunc(changes, named) {
		changes = append(changes, profiles.Change{Key: table, How: "changed"})
	}
	return nonNil(changes), nil
}

// nonNil gives the list, not nil, for JSON.
func nonNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
