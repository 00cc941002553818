package main

import (
	"github.com/spf13/cobra"

	"boxrun/launcher/undone"
)

func repairCommand(a *app) *cobra.Command {
	var quiet bool
	var change undone.Change
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
			done, err := a.launcher().Heal(cmd.Context(), change)
			told := done.Told()
			for _, line := range told {
				a.note(line)
			}
			switch {
			case err != nil || quiet || len(told) > 0:
			case done.Boxes == 0:
				a.note("no box is up")
			default:
				a.note("all rules are in place")
			}
			return err
		},
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "say nothing where nothing is to do")
	cmd.Flags().Func("after", "the change that the watch has heard of", change.Read)
	_ = cmd.Flags().MarkHidden("after")
	return cmd
}
