//go:build man

package main

import (
	"github.com/spf13/cobra"

	"boxrun/cmd/boxrun/manual"
)

// manCommands has the verb that writes the manual pages, for "make install" and for packages. boxrun makes the pages from
// its own verbs, by "go run -tags man": what makes pages would be a sixth of the start of every boxrun.
func manCommands() []*cobra.Command {
	return []*cobra.Command{{
		Use:    "man DIR",
		Short:  "Write the manual pages to DIR/man1 and DIR/man5",
		Hidden: true,
		Args:   args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, names []string) error {
			pages, err := manual.Pages(cmd.Root())
			if err != nil {
				return err
			}
			return manual.Write(names[0], pages)
		},
	}}
}
