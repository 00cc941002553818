package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"boxrun/launcher"
	"boxrun/launcher/fault"
	"boxrun/launcher/units"
	"boxrun/profiles"
)

func (a *app) disableCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "disable PROFILE...",
		Short: "No longer start boxes at boot",
		Long: `disable takes back what enable did. A box that is up stays up, and is started
again if it dies, until it goes down. With the last enabled box the units in
/etc/systemd/system go.`,
		Example:           `  boxrun disable web`,
		Args:              args(cobra.MinimumNArgs(1)),
		ValidArgsFunction: a.completeProfiles,
		RunE: func(cmd *cobra.Command, names []string) error {
			if err := a.needRoot("disable"); err != nil {
				return err
			}
			return a.each(cmd, names, a.disable)
		},
	}
}

// disable stops starting a box at boot. Like down it needs only the name: the profile may be invalid, gone, or hidden
// by another profile of the name.
func (a *app) disable(ctx context.Context, arg string) error {
	name := profiles.BoxName(arg)
	l, err := a.launcher()
	if err != nil {
		return err
	}
	if word := units.EnabledAs(name); name == arg && word != "" {
		arg = word // the box's own name works too, as ps prints the box
	}
	was, err := units.Disable(ctx, l.Store, arg)
	if err != nil {
		return err
	}
	if !was {
		return a.notEnabled(l, arg, name)
	}
	a.notef("%s: is no longer started at boot", name)
	return nil
}

// notEnabled reports a box that is not started at boot. With a profile of the name this is a note; without, an
// ErrNotFound.
func (a *app) notEnabled(l *launcher.Launcher, arg, name string) error {
	if _, err := a.search.Load(arg); errors.Is(err, profiles.ErrNotFound) {
		return &fault.Problem{Kind: fault.ErrNotFound,
			Text: fmt.Sprintf("there is no profile named %q, and no box of that name is enabled%s", arg, l.DidYouMean(name)),
			Hint: "\"boxrun ps -a\" lists profiles"}
	}
	a.notef("%s: is not enabled", name)
	return nil
}
