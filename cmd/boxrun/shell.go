package main

import (
	"errors"

	"github.com/spf13/cobra"

	"boxrun/cmd/boxrun/habits"
	"boxrun/cmd/boxrun/tab"
	"boxrun/launcher/enter"
)

func shellCommand(a *app) *cobra.Command {
	var user string
	cmd := &cobra.Command{
		Use:   "shell PROFILE",
		Short: "Open a login shell in a box",
		Long: `shell opens a login shell in a box that is up, on a terminal of the box's own,
so that tmux, su and sudo work as they do after a login.`,
		Example: `  boxrun shell web
  boxrun shell -u bob web`,
		Args: func(cmd *cobra.Command, words []string) error {
			if len(words) > 1 {
				return usageError{errors.New(habits.CommandOfShell(words, user, a.profileOf))}
			}
			return args(cobra.ExactArgs(1))(cmd, words)
		},
		ValidArgsFunction: tab.First(a.tab().Boxes),
		PreRunE:           a.asRoot,
		RunE: func(cmd *cobra.Command, names []string) error {
			return a.exec(cmd, names[0], enter.Command{User: user, Login: true, TTY: a.interactive()})
		},
	}
	cmd.Flags().StringVarP(&user, "user", "u", "", "log in as this `USER` of the box (default root)")
	habits.DoneAnyway(cmd, "interactive", "i")
	habits.DoneAnyway(cmd, "tty", "t")
	tab.Flags(cmd, a.tab().Users, "user")
	return cmd
}
