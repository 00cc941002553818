package main

import (
	"github.com/spf13/cobra"

	"boxrun/cmd/boxrun/rows"
	"boxrun/profiles"
)

func diffCommand(a *app) *cobra.Command {
	return a.withJSON(&cobra.Command{
		Use:   "diff PROFILE",
		Short: "Show how a running box differs from its profile and image",
		Long: `diff compares a box that is up with what "boxrun up" would make now: keys of
the profile with their old and new values, the image, the definition it was
built from, and what is out of place on the host. Nothing is printed where
nothing differs. Values of variables and of secrets are never shown.

The exit code is 0 whether there are differences or not.`,
		Example: `  boxrun diff web
  boxrun diff --json web`,
		Args:              args(cobra.ExactArgs(1)),
		ValidArgsFunction: a.tab().Boxes,
		PreRunE:           a.asRootFor,
		RunE: func(cmd *cobra.Command, names []string) error {
			p, err := a.search.Load(names[0])
			if err != nil {
				return err
			}
			d, err := a.launcher().Diff(cmd.Context(), profiles.BoxName(names[0]), p)
			if err != nil {
				return err
			}
			return a.result(d, 3, rows.Diff(d))
		},
	})
}
