package main

import (
	"github.com/spf13/cobra"
)

// version is set by the linker: see the Makefile.
var version = "dev" //nolint:gochecknoglobals // the linker knows no other place

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print boxrun's version",
		Args:  args(cobra.NoArgs),
		RunE:  func(*cobra.Command, []string) error { return a.lines([]string{"boxrun " + version}) },
	}
}
