package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"boxrun/launcher"
	"boxrun/profiles"
)

// dependencies returns the profiles that p needs, in the order of their starts. As root, a profile that others may have
// written is refused.
func (a *app) dependencies(ctx context.Context, p profiles.Profile) ([]profiles.Profile, error) {
	needed, err := a.search.Dependencies(p)
	for _, q := range needed {
		err = cmp.Or(err, a.trust(ctx, q))
	}
	return needed, err
}

// upNeeded brings up the dependencies of p and waits until all are ready: a box that is not ready is of no use to p.
// Dependencies already up and in order are not mentioned. An error names p and the dependency that failed.
func (a *app) upNeeded(ctx context.Context, l *launcher.Launcher, p profiles.Profile) error {
	needed, err := a.dependencies(ctx, p)
	if err != nil {
		return err
	}
	for _, q := range needed {
		began := time.Now()
		up, err := l.Up(ctx, q, launcher.UpOptions{})
		a.live("")
		if up.Box != nil && (up.Started || len(up.Repaired) > 0) {
			a.noteUp(up, time.Since(began))
		}
		if err != nil {
			return fmt.Errorf("%s: not started, as it depends on %s: %w", p.Name, q.Name, err)
		}
	}
	return nil
}
