package main

import (
	"context"
	"fmt"
	"time"

	"boxrun/launcher"
	"boxrun/profiles"
)

// upNeeded brings up what a box depends on, and waits until all of it is ready: a box that is not there yet is as good
// as none to whom needs it. Of one that is up already nothing is said.
func (a *app) upNeeded(ctx context.Context, l *launcher.Launcher, p profiles.Profile) error {
	needed, err := a.search.Dependencies(p)
	if err != nil {
		return err
	}
	for _, q := range needed {
		if err := a.trust(q); err != nil {
			return err
		}
	}
	for _, q := range needed {
		began := time.Now()
		up, err := l.Up(ctx, q, launcher.UpOptions{})
		a.live("")
		if up.Box != nil && (up.Started || len(up.Mended) > 0) {
			a.noteUp(up, time.Since(began))
		}
		if err != nil {
			return fmt.Errorf("%s: not started, as it depends on %s: %w", p.Name, q.Name, err)
		}
	}
	return nil
}
