package main

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"boxrun/launcher"
	"boxrun/launcher/box"
	"boxrun/profiles"
)

func statusCommand(a *app) *cobra.Command {
	var check bool
	cmd := a.withJSON(&cobra.Command{
		Use:     "status PROFILE",
		Aliases: []string{"inspect"},
		Short:   "Tell all about one box: its systemd, its rules, who can reach it",
		Long: `status tells all about one box: the state of its systemd and units that failed,
what it uses and is held to, who can reach which port, whether its rules and its
bridge are as boxrun made them, and whether its profile has changed since.

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
where the profile has health.interval: it then tells of the last look.`,
		Example: `  boxrun status web
  boxrun status --json web
  boxrun status --check web`,
		Args:              args(cobra.ExactArgs(1)),
		ValidArgsFunction: first(a.completeBoxes),
		PreRunE:           unless(&check, a.asRoot),
		RunE: func(cmd *cobra.Command, names []string) error {
			if check {
				return a.check(cmd, names[0])
			}
			a.noteOthers(names)
			var now *profiles.Profile // nil where it is missing or invalid: status still describes the box
			if p, err := a.search.Load(names[0]); err == nil {
				now = &p
			}
			d, err := a.launcher().Status(cmd.Context(), profiles.BoxName(names[0]), now)
			if err != nil {
				return err
			}
			return a.result(d, 3, statusRows(d, time.Now()))
		},
	})
	cmd.Flags().BoolVar(&check, "check", false, "print one line, and tell by the exit code how the box is")
	return cmd
}

// statusRows returns a label and a value for each line of status.
func statusRows(d launcher.Detail, now time.Time) [][]string {
	state := d.State
	if d.PID != 0 {
		state += ", up " + uptime(d.Status, now) + ", pid " + strconv.Itoa(d.PID)
	}
	rows := [][]string{
		{"name:", d.Name},
		{"state:", state},
		{"health:", healthText(d.Status, now)},
		{"systemd:", cmp.Or(d.Systemd, "-")},
		{"failed:", cmp.Or(strings.Join(d.Failed, ", "), "-")},
		{"address:", cmp.Or(d.Address, "-")},
		{"image:", d.Image + imageNow(d)},
		{"profile:", d.Profile + changed(d)},
		{"enabled:", yesNo(d.Enabled) + atBoot(d)},
	}
	if d.HooksDue && d.PID != 0 {
		rows = append(rows, []string{"post_up:", "has not run to its end: \"boxrun up\" runs it"})
	}
	rows = append(rows, []string{"security:", d.Security.String()})
	rows = append(rows, labelled("resources:", usageLines(d))...)
	rows = append(rows, labelled("ports:", d.Exposure)...)
	rows = append(rows, labelled("contested:", d.Contested)...)
	if len(d.Drift) == 0 && d.State == string(box.Running) {
		return append(rows, []string{"network:", "in place"})
	}
	return append(rows, labelled("drifted:", d.Drift)...)
}

// healthText says how a box is, why, and since when.
func healthText(s launcher.Status, now time.Time) string {
	if s.PID == 0 {
		return "-"
	}
	text := s.Health.Word
	if !s.Health.Since.IsZero() {
		text += " for " + span(now.Sub(s.Health.Since))
	}
	if s.Health.Why != "" {
		text += ": " + s.Health.Why
	}
	return text
}

// changed says that the profile or a secret's file changed since the start; "" where neither did.
func changed(d launcher.Detail) string {
	said := slices.DeleteFunc(slices.Clone(d.Changed), func(what string) bool { return what != "profile" && what != "secrets" })
	if len(said) == 0 {
		return ""
	}
	return " (" + strings.Join(said, " and ") + " changed since the start: \"boxrun up --replace\" starts the box anew)"
}

// atBoot says that the next boot starts another profile than the box was started from; "" otherwise.
func atBoot(d launcher.Detail) string {
	if d.AtBoot == "" || d.AtBoot == d.Profile {
		return ""
	}
	return " (the next boot starts " + d.AtBoot + ")"
}

// ImageNow says how the image or its definition changed since the start; "" for no change.
func imageNow(d launcher.Detail) string {
	switch {
	case d.ImageNow != "":
		return " (" + d.ImageNow + " since the start: \"boxrun up --replace\" starts the box anew)"
	case d.DefinitionUnread != "":
		return " (whether it is of its definition is not known: " + d.DefinitionUnread + ")"
	case d.Definition != "":
		return " (" + d.Definition + ": \"boxrun up --build\" builds it)"
	}
	return ""
}

// labelled returns a row for each line. The first row carries the label, the others an empty cell.
func labelled(label string, lines []string) [][]string {
	var rows [][]string
	for _, line := range lines {
		rows = append(rows, []string{label, line})
		label = ""
	}
	return rows
}
