package rows

import (
	"strings"

	"boxrun/launcher"
)

// Diff returns a row for each difference: what differs, and how.
func Diff(d launcher.Diff) [][]string {
	var rows [][]string
	for _, c := range d.Profile {
		rows = append(rows, []string{"profile:", c.String()})
	}
	for _, name := range d.Secrets {
		rows = append(rows, []string{"profile:", "secrets." + name + ": the file has changed"})
	}
	if d.Image != "" {
		rows = append(rows, []string{"image:", d.Image + " since the start"})
	}
	if d.Definition != "" {
		rows = append(rows, []string{"build:", d.Definition})
	}
	for _, line := range d.Drift {
		rows = append(rows, []string{"drifted:", strings.TrimSpace(line)})
	}
	return rows
}
