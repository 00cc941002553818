package main

import "github.com/spf13/cobra"

func (a *app) repairCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "repair",
		Short: "Put back rules of boxes that somebody took away",
		Long: `repair looks after all boxes that are up, and touches none of them: what a
firewall flushed is put back. systemd runs it when a firewall was restarted or
reloaded, where a box is enabled.`,
		Example: `  boxrun repair`,
		Args:    args(cobra.NoArgs),
		PreRunE: a.asRoot,
		RunE: func(cmd *cobra.Command, _ []string) error {
			done, err := a.launcher().Repair(cmd.Context())
			for _, line := range done.Lines {
				a.notef("mended: %s", line)
			}
			switch {
			case err != nil:
				return err
			case done.Boxes == 0:
				a.note("no box is up")
			case len(done.Lines) == 0:
				a.note("all rules are in place")
			}
			return nil
		},
	}
}
