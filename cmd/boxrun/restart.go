package main

import (
	"context"

	"github.com/spf13/cobra"

	"boxrun/launcher"
)

func (a *app) restartCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "restart PROFILE...",
		Short: "Take boxes down and bring them up again",
		Long: `restart takes a box down and brings it up again, with its profile as it is now.
What up would refuse is refused before the box goes down.`,
		Example:           `  boxrun restart web`,
		Args:              args(cobra.MinimumNArgs(1)),
		ValidArgsFunction: a.completeProfiles,
		PreRunE:           a.asRootFor,
		// A box that had to be killed comes up all the same, and the exit code tells of the kill.
		RunE: a.each(func(ctx context.Context, name string) error {
			return a.up(ctx, name, launcher.UpOptions{Anew: true})
		}),
	}
}
