package main

import (
	"time"

	"github.com/spf13/cobra"

	"boxrun/cmd/boxrun/habits"
	"boxrun/cmd/boxrun/rows"
	"boxrun/cmd/boxrun/tab"
	"boxrun/launcher"
	"boxrun/profiles"
)

func statusCommand(a *app) *cobra.Command {
	var check bool
	var watch time.Duration
	cmd := a.withJSON(&cobra.Command{
		Use:     "status PROFILE",
		Aliases: []string{"inspect"},
		Short:   "Tell all about one box: its systemd, its rules, who can reach it",
		Long: `status tells all about one box: the state of its systemd and units that failed,
what it uses and is held to, who can reach which port, whether its rules, bridge
and limits are as boxrun made them, and whether its profile has changed since.

With --check it prints one line, for monitors and cluster managers, and never
starts anything. The exit code says how the box is:

   0  well: healthy, or degraded by a failed unit that [ready] does not name
   3  not up
   5  not ready: it is starting, or was never ready since its start
  10  unhealthy: what [ready] asks for was there, and is not
  11  crashed
  12  drifted: it is well, and rules or limits of it are out of place
  13  busy: another boxrun stops it, or starts it anew

1 and 2 are failures of boxrun itself, as with every verb. --check needs no root
where the profile has health.interval: it then tells of the last look. --watch
has it look when the first process of the box ends, or when the time is over.`,
		Example: `  boxrun status web
  boxrun status --json web
  boxrun status --check web`,
		Args:              args(cobra.ExactArgs(1)),
		ValidArgsFunction: tab.First(a.tab().Boxes),
		PreRunE: func(cmd *cobra.Command, names []string) error {
			check = check || watch > 0
			return unless(&check, a.asRoot)(cmd, names)
		},
		RunE: func(cmd *cobra.Command, names []string) error {
			if check {
				return a.check(cmd, names[0], watch)
			}
			a.noteOthers(names)
			p, unread := a.search.Load(names[0])
			d, err := a.launcher().Status(cmd.Context(), profiles.BoxName(names[0]), launcher.Now{Profile: p, Unread: unread})
			if err != nil {
				return err
			}
			return a.result(d, 3, rows.Status(d, time.Now()))
		},
	})
	cmd.Flags().BoolVar(&check, "check", false, "print one line, and tell by the exit code how the box is")
	cmd.Flags().DurationVar(&watch, "watch", 0, "as --check, after this time or when the box dies")
	habits.DoneAnyway(cmd, "full", "l")
	habits.DoneAnyway(cmd, "no-pager", "")
	return cmd
}
