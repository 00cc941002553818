package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"boxrun/launcher"
)

func (a *app) psCommand() *cobra.Command {
	var asJSON, quiet, all bool
	cmd := &cobra.Command{
		Use:     "ps",
		Aliases: []string{"ls", "list"},
		Short:   "List the boxes",
		Long: `ps lists the boxes: those that run, are starting or stopping, and those that
have crashed, of which "boxrun up" or "boxrun down" clears away what is left.
Memory, processor time and tasks are those of the whole box.`,
		Example: `  boxrun ps
  boxrun ps -a
  boxrun ps --json`,
		Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			boxes, err := a.listed(all)
			if err != nil && len(boxes) == 0 {
				return err
			}
			switch {
			case asJSON:
				return errors.Join(err, a.json(boxes))
			case quiet:
				return errors.Join(err, a.lines(column(boxes, func(s launcher.Status) string { return s.Name })))
			}
			return errors.Join(err,
				a.table("NAME STATE ENABLED RESTARTS ADDRESS PORTS UPTIME MEMORY CPU TASKS IMAGE", psRows(boxes, time.Now())))
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print names only")
	cmd.Flags().BoolVarP(&all, "all", "a", false, "also profiles that are not up")
	return cmd
}

// listed gives the boxes, and with all the profiles of which there is no box. Beside an error it gives what it could read.
func (a *app) listed(all bool) ([]launcher.Status, error) {
	l, err := a.launcher()
	if err != nil {
		return nil, err
	}
	boxes, unread := l.List()
	if unread != nil || !all {
		return boxes, unread
	}
	known := map[string]bool{}
	for _, b := range boxes {
		known[b.Name] = true
	}
	found, err := a.search.List()
	for _, f := range found {
		if !known[f.Name] && f.Err == nil {
			known[f.Name] = true
			enabled := launcher.EnabledAs(f.Name) != ""
			boxes = append(boxes, launcher.Status{Name: f.Name, State: "down", Ports: []string{}, Changed: []string{}, Profile: f.File, Enabled: enabled})
		}
	}
	return boxes, err
}

func psRows(boxes []launcher.Status, now time.Time) [][]string {
	rows := make([][]string, len(boxes))
	for i, b := range boxes {
		rows[i] = []string{b.Name, b.State + shownChange(b), yesNo(b.Enabled), strconv.Itoa(b.Restarts), orDash(b.Address),
			orDash(strings.Join(b.Ports, ", ")), uptime(b, now),
			shownMemory(b.Usage), shownCPU(b.Usage), shownTasks(b.Usage), orDash(b.Image)}
	}
	return rows
}

// shownChange marks a box that is not what its profile and image would make it now.
func shownChange(b launcher.Status) string {
	if len(b.Changed) == 0 {
		return ""
	}
	return " (" + strings.Join(b.Changed, ", ") + " changed)"
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// uptime gives how long a box has run, in its two largest units.
func uptime(b launcher.Status, now time.Time) string {
	if b.PID == 0 {
		return "-"
	}
	d := now.Sub(b.Started)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
}

func column[T any](rows []T, cell func(T) string) []string {
	cells := make([]string, len(rows))
	for i, row := range rows {
		cells[i] = cell(row)
	}
	return cells
}
