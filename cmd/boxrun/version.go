package main

import "github.com/spf13/cobra"

// The linker sets version: see the Makefile.
var version = "dev" //nolint:gochecknoglobals // the linker knows no other place

func versionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print boxrun's version",
		Long: `version prints which boxrun this is, by the git commit it was built from; a
"-dirty" at its end says that files had been changed since.`,
		Example: `  boxrun version`,
		Args:    args(cobra.NoArgs),
		RunE:    func(*cobra.Command, []string) error { return a.lines([]string{"boxrun " + version}) },
	}
}
