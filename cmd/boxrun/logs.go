package main

import (
	"github.com/spf13/cobra"

	"boxrun/launcher"
	"boxrun/profiles"
)

func (a *app) logsCommand() *cobra.Command {
	var o launcher.Logs
	cmd := &cobra.Command{
		Use:   "logs PROFILE",
		Short: "Print the journal of a box",
		Long: `logs prints the journal of a box; of one that has none or has crashed, what
Apptainer kept of its init's output and of its start.`,
		Example: `  boxrun logs -n 20 web
  boxrun logs -u nginx --since -1h web`,
		Args:              args(cobra.ExactArgs(1)),
		ValidArgsFunction: a.completeBoxes,
		RunE: func(cmd *cobra.Command, names []string) error {
			if err := a.needRoot("logs"); err != nil {
				return err
			}
			l, err := a.launcher()
			if err != nil {
				return err
			}
			code, err := l.Logs(cmd.Context(), profiles.BoxName(names[0]), o, a.out, a.err)
			if err == nil && code != exitDone {
				return codeError(code)
			}
			return err
		},
	}
	cmd.Flags().BoolVarP(&o.Follow, "follow", "f", false, "go on as lines come")
	cmd.Flags().IntVarP(&o.Lines, "lines", "n", 0, "only the last `N` lines")
	cmd.Flags().StringVarP(&o.Unit, "unit", "u", "", "only lines of this `UNIT`")
	cmd.Flags().StringVar(&o.Since, "since", "", "only lines since this `TIME`, as journalctl takes it")
	return cmd
}
