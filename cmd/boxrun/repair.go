package main

import "github.com/spf13/cobra"

func repairCommand(a *app) *cobra.Command {
	var quiet bool
	cmd := &cobra.Command{
		Use:   "repair",
		Short: "Put back what somebody took away from boxes",
		Long: `repair looks after all boxes that are up, and touches none of them: rules
that a firewall flushed, links and name servers that others changed are put
back, looks that somebody stopped go on, and what a person has to mend is named.
For enabled boxes repair runs by itself after such a change, but for looks.`,
		Example: `  boxrun repair`,
		Args:    args(cobra.NoArgs),
		PreRunE: a.asRoot,
		RunE: func(cmd *cobra.Command, _ []string) error {
			done, err := a.launcher().Repair(cmd.Context(), !quiet)
			told := done.Told()
			for _, line := range told {
				a.note(line)
			}
			switch {
			case err != nil || quiet:
				return err
			case done.Boxes == 0:
				a.note("no box is up")
			case len(told) == 0:
				a.note("all rules are in place")
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "say only what was mended")
	return cmd
}
