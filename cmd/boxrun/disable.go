package main

import (
	"context"

	"github.com/spf13/cobra"

	"boxrun/launcher/units"
	"boxrun/profiles"
)

func disableCommand(a *app) *cobra.Command {
	var now bool
	cmd := &cobra.Command{
		Use:   "disable PROFILE...",
		Short: "No longer start boxes at boot",
		Long: `disable takes back what enable did. A box that is up stays up, and is started
again if it dies, until it goes down. With the last enabled box the units in
/etc/systemd/system go.`,
		Example:           `  boxrun disable web`,
		Args:              args(cobra.MinimumNArgs(1)),
		ValidArgsFunction: a.tab().Disable,
		PreRunE:           a.asRoot,
		RunE: a.each(func(ctx context.Context, name string) error {
			if err := a.disable(ctx, name); err != nil || !now {
				return err
			}
			a.noteLosses([]string{name})
			return a.down(ctx, name, nil)
		}),
	}
	cmd.Flags().BoolVar(&now, "now", false, "take the box down too")
	return cmd
}

// disable stops starting a box at boot. Like down it needs only the name: the profile may be invalid, gone, or hidden
// by another profile of the name.
func (a *app) disable(ctx context.Context, arg string) error {
	name := profiles.BoxName(arg)
	if word := units.EnabledAs(name); name == arg && word != "" {
		arg = word // the box's own name works too, as ps prints the box
	}
	was, err := units.Disable(ctx, a.launcher().Store, arg)
	if err != nil {
		return err
	}
	if !was {
		return a.absent(arg, name, "is not enabled",
			"there is no profile named %q, and no box of that name is enabled%s", "\"boxrun ps -a\" lists profiles")
	}
	a.notef("%s: is no longer started at boot", name)
	return nil
}
