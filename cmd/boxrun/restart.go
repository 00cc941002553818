package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"boxrun/launcher"
)

func (a *app) restartCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "restart PROFILE...",
		Short:             "Take boxes down and bring them up again",
		Args:              args(cobra.MinimumNArgs(1)),
		ValidArgsFunction: a.completeProfiles,
		RunE: func(cmd *cobra.Command, names []string) error {
			if err := a.needRootFor("restart", names); err != nil {
				return err
			}
			return a.each(cmd, names, a.restart)
		},
	}
}

// restart reads the profile first, so that a box whose profile is broken is not taken down. A box that had to be
// killed comes up again all the same; the exit code tells.
func (a *app) restart(ctx context.Context, name string) error {
	if _, err := a.profile(name); err != nil {
		return err
	}
	killed := a.down(ctx, name, 0)
	if killed != nil && !errors.Is(killed, launcher.ErrKilled) {
		return killed
	}
	return errors.Join(a.up(ctx, name, launcher.UpOptions{}), killed)
}
