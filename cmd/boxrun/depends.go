package main

import (
	"context"
	"fmt"
	"time"

	"boxrun/launcher"
	"boxrun/profiles"
)

// upNeeded brings up the dependencies of p and waits until all are ready: a box that is not ready is of no use to p.
// Dependencies already up and in order are not mentioned. An error names p and the dependency that failed.
func (a *app) upNeeded(ctx context.Context, l *launcher.Launcher, p profiles.Profile) error {
	needed, err := a.search.Dependencies(p)
	if err != nil {
		return err
	}
	for _, q := range needed {
		if err := a.trust(ctx, q); err != nil {
			return err
		}
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
