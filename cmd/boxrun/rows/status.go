package rows

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"boxrun/launcher"
	"boxrun/launcher/box"
	"boxrun/launcher/health"
	"boxrun/launcher/list"
)

// Status returns a label and a value for each line of status.
func Status(d launcher.Detail, now time.Time) [][]string {
	state := d.State
	if d.PID != 0 {
		state += ", up " + uptime(d.Status, now) + ", pid " + strconv.Itoa(d.PID)
	}
	if d.GivenUp {
		state += ", and systemd starts it no more: \"boxrun up\" does"
	}
	rows := [][]string{
		{"name:", d.Name},
		{"state:", state},
	}
	rows = append(rows, labelled("health:", healthLines(d.Status, now))...)
	rows = append(rows, [][]string{
		{"systemd:", cmp.Or(d.Systemd, "-")},
		{"failed:", cmp.Or(strings.Join(d.Failed, ", "), "-")},
		{"address:", addresses(append([]string{d.Address, d.Address6, d.Second}, d.LAN6...)...)},
		{"image:", d.Image + imageNow(d)},
		{"profile:", d.Profile + changed(d)},
		{"enabled:", yesNo(d.Enabled) + atBoot(d)},
	}...)
	if d.HooksDue && d.PID != 0 {
		rows = append(rows, []string{"post_up:", "has not run to its end: \"boxrun up\" runs it"})
	}
	rows = append(rows, []string{"security:", d.Security.String()})
	rows = append(rows, labelled("resources:", usageLines(d))...)
	rows = append(rows, labelled("ports:", d.Exposure)...)
	rows = append(rows, labelled("contested:", d.Contested)...)
	rows = append(rows, labelled("offload:", d.Offload)...)
	rows = append(rows, labelled("undone:", d.Undone)...)
	if d.Nameless != "" {
		rows = append(rows, []string{"names:", d.Nameless})
	}
	if len(d.Drift) == 0 && d.State == string(box.Running) {
		return append(rows, []string{"network:", "in place"})
	}
	return append(rows, labelled("drifted:", d.Drift)...)
}

// addresses joins the addresses that there are.
func addresses(all ...string) string {
	return cmp.Or(strings.Join(slices.DeleteFunc(all, func(a string) bool { return a == "" }), ", "), "-")
}

// healthLines says how a box is, since when, and why: of several reasons each has a line. What drifted has lines of its own
// below.
func healthLines(s launcher.Status, now time.Time) []string {
	if s.PID == 0 {
		return []string{"-"}
	}
	text := strings.TrimSpace(s.Health.Word + " " + lasts(s.Health, now))
	why := strings.Split(s.Health.Why, "; ")
	switch {
	case s.Health.Word == health.Drifted:
		return []string{text + ", as below: \"boxrun repair\" mends what it can"}
	case s.Health.Why == "":
		return []string{text}
	case len(why) == 1:
		return []string{text + ": " + why[0]}
	}
	return append([]string{text + ":"}, list.Map(why, func(reason string) string { return "  " + reason })...)
}

// changed says what became of the profile, and that a secret's file changed, since the start; "" where nothing did.
func changed(d launcher.Detail) string {
	switch {
	case d.ProfileNow == launcher.ProfileRemoved:
		return " (removed since the start)"
	case d.ProfileNow == launcher.ProfileInvalid:
		return " (invalid by now: \"boxrun profile check " + d.Name + "\" says why)"
	case d.ProfileNow == launcher.LimitsChanged && !slices.Contains(d.Changed, "secrets"):
		return " (limits changed since the start: \"boxrun up\" sets them, where the host can)"
	case d.ProfileNow == launcher.PortsChanged && !slices.Contains(d.Changed, "secrets"):
		return " (published ports changed since the start, as \"boxrun diff " + d.Name + "\" shows: \"boxrun up\" publishes them)"
	}
	said := slices.DeleteFunc(slices.Clone(d.Changed), func(what string) bool { return what != "profile" && what != "secrets" })
	if len(said) == 0 {
		return ""
	}
	return " (" + strings.Join(said, " and ") + " changed since the start" + shown(d, said) + ": \"boxrun up --replace\" starts the box anew)"
}

// shown says what shows a change of the profile.
func shown(d launcher.Detail, changed []string) string {
	if !slices.Contains(changed, "profile") {
		return ""
	}
	return ", as \"boxrun diff " + d.Name + "\" shows"
}

// atBoot says that the next boot starts another profile than the box was started from; "" otherwise.
func atBoot(d launcher.Detail) string {
	if d.AtBoot == "" || d.AtBoot == d.Profile {
		return ""
	}
	return " (the next boot starts " + d.AtBoot + ")"
}

// imageNow says how the image or its definition changed since the start; "" for no change.
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
