package main

import (
	"github.com/spf13/cobra"

	"boxrun/launcher/units"
)

// watchCommand waits for reloads of firewalld. Only boxrun-watch@firewalld.service runs this verb.
func (a *app) watchCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "watch",
		Short:  "Wait for firewalld to be reloaded, and have rules repaired then",
		Hidden: true,
		Args:   args(cobra.NoArgs),
		RunE:   func(cmd *cobra.Command, _ []string) error { return units.Watch(cmd.Context()) },
	}
}
