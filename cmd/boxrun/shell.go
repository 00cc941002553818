package main

import (
	"github.com/spf13/cobra"

	"boxrun/launcher/enter"
)

func (a *app) shellCommand() *cobra.Command {
	var user string
	cmd := &cobra.Command{
		Use:   "shell PROFILE",
		Short: "Open a login shell in a box",
		Long: `shell opens a login shell in a box that is up, on a terminal of the box's own,
so that tmux, su and sudo work as they do after a login.`,
		Example: `  boxrun shell web
  boxrun shell -u bob web`,
		Args:              args(cobra.ExactArgs(1)),
		ValidArgsFunction: first(a.completeBoxes),
		PreRunE:           a.asRoot,
		RunE: func(cmd *cobra.Command, names []string) error {
			return a.exec(cmd, names[0], enter.Command{User: user, Login: true, TTY: a.interactive()})
		},
	}
	cmd.Flags().StringVarP(&user, "user", "u", "", "log in as this `USER` of the box (default root)")
	return cmd
}
