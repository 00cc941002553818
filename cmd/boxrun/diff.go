package main

import (
	"strings"

	"github.com/spf13/cobra"

	"boxrun/launcher"
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
		ValidArgsFunction: a.completeBoxes,
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
			return a.result(d, 3, diffRows(d))
		},
	})
}

// diffRows returns a row for each difference: what differs, and how.
func diffRows(d launcher.Diff) [][]string {
	var rows [][]string
	for _, c := range d.Profile {
		rows = append(rows, []string{"profile:", c.String()})
	}
	for _, name := range d.Secrets {
		rows = append(rows, []string{"profile:", "secrets." + name + ": the file has changed"})
	}
	if d.Image != "" {
		rows = append(rows, []string{"image:", d.Image + " since the start"})
	}
	if d.Definition != "" {
		rows = append(rows, []string{"build:", d.Definition})
	}
	for _, line := range d.Drift {
		rows = append(rows, []string{"drifted:", strings.TrimSpace(line)})
	}
	return rows
}
