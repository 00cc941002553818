package main

import (
	"context"

	"github.com/spf13/cobra"

	"boxrun/cmd/boxrun/given"
	"boxrun/launcher"
)

func restartCommand(a *app) *cobra.Command {
	timeout := given.Timeout()
	var all bool
	cmd := &cobra.Command{
		Use:   "restart PROFILE... | --all",
		Short: "Take boxes down and bring them up again",
		Long: `restart takes a box down and brings it up again, with its profile as it is now.
What up would refuse is refused before the box goes down. What the box wrote to
a root of tmpfs is gone, as after down. Several boxes restart side by side, each
after those that it depends on.`,
		Example: `  boxrun restart web
  boxrun restart --timeout 10m web`,
		Args:              args(namesOrAll(&all)),
		ValidArgsFunction: a.tab().Profiles,
		PreRunE:           a.asRootFor,
		RunE: a.orAll(&all, func(cmd *cobra.Command, names []string) error {
			a.noteLosses(names)
			// A box that had to be killed comes up all the same, and the exit code tells of the kill.
			return a.sideBySide(cmd, names, a.needed, func(ctx context.Context, a *app, name string) error {
				return a.up(ctx, name, launcher.UpOptions{Anew: true, StopTimeout: timeout.Value})
			})
		}),
	}
	stopTimeout(cmd, timeout)
	cmd.Flags().BoolVarP(&all, "all", "a", false, "every box")
	return cmd
}
