package main

import (
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"boxrun/launcher"
	"boxrun/launcher/box"
	"boxrun/profiles"
)

func (a *app) statusCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status PROFILE",
		Short: "Tell all about one box: its systemd, its rules, who can reach it",
		Long: `status tells all about one box: the state of its systemd and units that failed,
what it uses and is held to, who can reach which port, whether its rules and its
bridge are as boxrun made them, and whether its profile has changed since.`,
		Example: `  boxrun status web
  boxrun status --json web`,
		Args:              args(cobra.ExactArgs(1)),
		ValidArgsFunction: first(a.completeBoxes),
		RunE: func(cmd *cobra.Command, names []string) error {
			if err := a.needRoot("status"); err != nil {
				return err
			}
			l, err := a.launcher()
			if err != nil {
				return err
			}
			d, err := l.Status(cmd.Context(), profiles.BoxName(names[0]), a.profileNow(names[0]))
			if err != nil {
				return err
			}
			if asJSON {
				return a.json(d)
			}
			return a.columns(statusRows(d, time.Now()))
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// profileNow gives the profile as it is now, nil where it is not to be found or not valid: that is no reason to say
// nothing of the box.
func (a *app) profileNow(name string) *profiles.Profile {
	p, err := a.search.Load(name)
	if err != nil {
		return nil
	}
	return &p
}

// statusRows lays a box out for a person: a label and a value a line.
func statusRows(d launcher.Detail, now time.Time) [][]string {
	state := d.State
	if d.PID != 0 {
		state += ", up " + uptime(d.Status, now) + ", pid " + strconv.Itoa(d.PID)
	}
	rows := [][]string{
		{"name:", d.Name},
		{"state:", state},
		{"systemd:", orDash(d.Systemd)},
		{"failed:", orDash(strings.Join(d.Failed, ", "))},
		{"address:", orDash(d.Address)},
		{"image:", d.Image + imageNow(d)},
		{"profile:", d.Profile + changed(d)},
		{"enabled:", yesNo(d.Enabled) + atBoot(d)},
	}
	if d.HooksDue && d.PID != 0 {
		rows = append(rows, []string{"post_up:", "has not run to its end: \"boxrun up\" runs it"})
	}
	rows = append(rows, labelled("resources:", usageLines(d))...)
	rows = append(rows, labelled("ports:", d.Exposure)...)
	if len(d.Drift) == 0 && d.State == string(box.Running) {
		return append(rows, []string{"network:", "in place"})
	}
	return append(rows, labelled("drifted:", d.Drift)...)
}

// changed says that the profile, or a secret's file, is not as it was at the start.
func changed(d launcher.Detail) string {
	for _, what := range d.Changed {
		if what == "profile" || what == "secrets" {
			return " (" + what + " changed since the start: \"boxrun up --replace\" starts the box anew)"
		}
	}
	return ""
}

// atBoot says that another profile is started at boot than the box was started from.
func atBoot(d launcher.Detail) string {
	if d.AtBoot == "" || d.AtBoot == d.Profile {
		return ""
	}
	return " (the next boot starts " + d.AtBoot + ")"
}

// ImageNow says what has become of the image, and of what it was built from.
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

// labelled gives one row a line, the first with the label.
func labelled(label string, lines []string) [][]string {
	var rows [][]string
	for _, line := range lines {
		rows = append(rows, []string{label, line})
		label = ""
	}
	return rows
}
