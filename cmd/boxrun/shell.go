package main

import (
	"github.com/spf13/cobra"

	"boxrun/launcher"
)

func (a *app) shellCommand() *cobra.Command {
	var user string
	cmd := &cobra.Command{
		Use:               "shell PROFILE",
		Short:             "Open a login shell in a box",
		Args:              args(cobra.ExactArgs(1)),
		ValidArgsFunction: a.completeBoxes,
		RunE: func(cmd *cobra.Command, names []string) error {
			if err := a.needRoot("shell"); err != nil {
				return err
			}
			return a.exec(cmd, names[0], launcher.Exec{User: user, Login: true, TTY: a.interactive()})
		},
	}
	cmd.Flags().StringVarP(&user, "user", "u", "", "log in as this user of the box (default root)")
	return cmd
}
