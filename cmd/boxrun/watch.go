package main

import (
	"github.com/spf13/cobra"

	"boxrun/launcher/units"
)

// watchCommand is what boxrun-watch@firewalld.service runs; nobody else has a use for it.
func (a *app) watchCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "watch",
		Short:  "Wait for firewalld to be reloaded, and have rules repaired then",
		Hidden: true,
		Args:   args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return units.Watch(cmd.Context())
		},
	}
}
