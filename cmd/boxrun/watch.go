package main

import (
	"github.com/spf13/cobra"

	"boxrun/launcher/watch"
)

// watchCommand waits for changes of the host. Only boxrun-watch@host.service runs this verb.
func watchCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:    "watch",
		Short:  "Wait for changes of the host, and have boxes repaired then",
		Hidden: true,
		Args:   args(cobra.NoArgs),
		RunE:   func(cmd *cobra.Command, _ []string) error { return watch.Run(cmd.Context(), a.launcher().Store, a.err) },
	}
}
