package main

import (
	"slices"

	"github.com/spf13/cobra"

	"boxrun/launcher/host"
	"boxrun/netsetup"
	"boxrun/profiles"
)

func hostCommand(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:   "host",
		Short: "Make the host ready for boxes, show or undo what boxrun did to it",
		Long: `host is about what boxrun keeps on this host: setup keeps what boxes need over
reboots, where "boxrun up" otherwise sees to it each time; show lists all there
is; reset takes all of it away.`,
	}, hostSetupCommand(a), hostShowCommand(a), hostResetCommand(a))
}

func hostSetupCommand(a *app) *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "Keep over reboots what boxes need of the host",
		Long: `setup writes the files that set sysctls, load modules and turn off offload at
boot, and the zone of firewalld where that is installed, and applies all of it
now. Boxes work without it; run it again when a profile names a new bridge.`,
		Example: `  boxrun host setup --dry-run
  boxrun host setup`,
		Args:    args(cobra.NoArgs),
		PreRunE: unless(&dryRun, a.asRoot),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l := a.launcher()
			if dryRun {
				return a.commands(host.SetupCommands(l, a.hostProfiles()))
			}
			done, err := host.Setup(cmd.Context(), l, a.hostProfiles())
			for _, line := range done.Missing {
				a.notef("warning: %s", line)
			}
			if err != nil {
				return err
			}
			for _, line := range done.Changed {
				a.note(line)
			}
			if len(done.Changed) == 0 {
				a.note("the host is set up, nothing to change")
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print the files and commands, and change nothing")
	return cmd
}

// hostProfiles returns the valid profiles of the host's own directories, not of a person's. A setup keeps the bridges
// of these profiles. Unreadable profiles are skipped.
func (a *app) hostProfiles() []profiles.Profile {
	search := profiles.OfHost()
	found, err := search.List()
	if err != nil {
		a.notef("warning: %v", err)
	}
	var ps []profiles.Profile
	for _, f := range found {
		if p, err := search.Load(f.Name); err == nil {
			ps = append(ps, p)
		}
	}
	return ps
}

func hostShowCommand(a *app) *cobra.Command {
	return a.withJSON(&cobra.Command{
		Use:   "show",
		Short: "Show all that boxrun holds on the host, in place or drifted",
		Long: `show prints all that boxrun holds on the host, rules, links, sysctls and files,
and of each whether it is in place or drifted.`,
		Example: `  boxrun host show`,
		Args:    args(cobra.NoArgs),
		PreRunE: a.asRoot,
		RunE: func(*cobra.Command, []string) error {
			held, err := host.Show(a.launcher(), a.hostProfiles())
			if err != nil {
				return err
			}
			if len(held) == 0 && !a.asJSON {
				a.note("boxrun holds nothing on this host")
				return nil
			}
			return a.result(held, 3, holdingRows(held))
		},
	})
}

// holdingRows returns a header and a row for each holding, followed by a row for each drift and each rule of the
// holding.
func holdingRows(held []netsetup.Holding) [][]string {
	rows := [][]string{{"OWNER", "STATE", "WHAT"}}
	for _, h := range held {
		state := "in place"
		if len(h.Drift) > 0 {
			state = "drifted"
		}
		rows = append(rows, []string{h.Owner, state, h.What})
		for _, line := range slices.Concat(h.Drift, h.Rules) {
			rows = append(rows, []string{"", "", "  " + line})
		}
	}
	return rows
}

func hostResetCommand(a *app) *cobra.Command {
	var force, dryRun bool
	cmd := &cobra.Command{
		Use:   "reset",
		Short: "Take away all that boxrun holds on the host, records or not",
		Long: `reset takes away all that carries boxrun's name: rules in both backends of
iptables, bridges, units, the files of setup, and what is in /run. It needs no
records. Profiles and overlays are yours, and stay. With boxes up it refuses,
unless --force has it take them down first.`,
		Example: `  boxrun host reset --dry-run
  boxrun host reset --force`,
		Args:    args(cobra.NoArgs),
		PreRunE: a.asRoot,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l := a.launcher()
			if dryRun {
				return a.commands(host.ResetCommands(l))
			}
			if err := host.Reset(cmd.Context(), l, force); err != nil {
				return err
			}
			a.note("nothing of boxrun is left on this host but its profiles, and the overlays of boxes")
			return nil
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "take boxes that are up down first")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print the commands, and change nothing")
	return cmd
}
