package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"boxrun/launcher"
	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/units"
	"boxrun/profiles"
)

func psCommand(a *app) *cobra.Command {
	var all bool
	cmd := a.withJSON(&cobra.Command{
		Use:     "ps [PROFILE...]",
		Aliases: []string{"ls", "list"},
		Short:   "List the boxes",
		Long: `ps, or ls, lists the boxes: those that run, are starting or stopping, and those
that have crashed, of which "boxrun up" or "boxrun down" clears away what is
left. With names it lists those alone.

BOOT is whether a box is started at boot, MEM what the whole box uses. Ports are
tcp, and open on all addresses, where they do not say otherwise. Behind the
image stands what ails the box, what has changed since the start, whether
something of the box is out of place on the host, which only root can see, and
how often systemd has started the box anew.

Of a box with health.interval in its profile STATE is what the last look found:
healthy, unhealthy, or degraded where a unit failed that [ready] does not name.
Nobody looks at others, and they are running.

"boxrun status" and --json tell more.`,
		Example: `  boxrun ps
  boxrun ps -a
  boxrun ps --json`,
		ValidArgsFunction: a.completeBoxes,
		RunE: func(_ *cobra.Command, names []string) error {
			boxes, err := a.listed(all || len(names) > 0)
			if len(names) > 0 && err == nil {
				boxes, err = a.named(boxes, names)
			}
			if err != nil && len(boxes) == 0 {
				return err
			}
			return errors.Join(err, a.result(boxes, 2, psRows(boxes, time.Now())))
		},
	})
	cmd.Flags().BoolVarP(&a.quiet, "quiet", "q", false, "print names only")
	cmd.Flags().BoolVarP(&all, "all", "a", false, "also profiles that are not up")
	return cmd
}

// listed returns the boxes, and with all also the profiles without a box. Beside an error listed returns the boxes it
// could read.
func (a *app) listed(all bool) ([]launcher.Status, error) {
	look := a.launcher().List
	if os.Geteuid() == 0 {
		look = a.launcher().ListWithDrift
	}
	boxes, unread := look()
	if unread != nil || !all {
		return boxes, unread
	}
	found, err := a.search.List()
	for _, f := range found {
		known := slices.ContainsFunc(boxes, func(b launcher.Status) bool { return b.Name == f.Name })
		if !known && f.Err == nil {
			boxes = append(boxes, launcher.Status{Name: f.Name, State: "down", Ports: []string{}, Changed: []string{},
				Profile: f.File, Enabled: units.EnabledAs(f.Name) != ""})
		}
	}
	return boxes, err
}

// named returns the boxes that args name, in that order. For an arg without one named notes that its box is not up, or
// returns an ErrNotFound beside the others.
func (a *app) named(boxes []launcher.Status, args []string) ([]launcher.Status, error) {
	found := []launcher.Status{}
	err := fault.Each(args, func(arg string) error {
		name := profiles.BoxName(arg)
		i := slices.IndexFunc(boxes, func(b launcher.Status) bool { return b.Name == name })
		if i < 0 {
			return a.notUp(arg, name)
		}
		found = append(found, boxes[i])
		return nil
	})
	return found, err
}

// psRows returns a header and a row for each box. With short names the rows fit a terminal of 80 columns. Cells that
// make a row wider stand at the end.
func psRows(boxes []launcher.Status, now time.Time) [][]string {
	rows := [][]string{{"NAME", "STATE", "BOOT", "ADDRESS", "PORTS", "UP", "MEM", "IMAGE"}}
	for _, b := range boxes {
		rows = append(rows, []string{b.Name, shownState(b), yesNo(b.Enabled), cmp.Or(b.Address, "-"),
			cmp.Or(shownPorts(b.Ports), "-"), uptime(b, now), shownMemory(b.Usage), shownImage(b) + remarks(b, now)})
	}
	return rows
}

// shownState returns the state of a box, and of a running box how the box is.
func shownState(b launcher.Status) string {
	if b.State != string(box.Running) {
		return b.State
	}
	return cmp.Or(b.Health.Word, b.State)
}

// shownPorts joins ports with blanks, without the usual parts: "/tcp" and the address 0.0.0.0.
func shownPorts(ports []string) string {
	return strings.Join(mapped(ports, func(port string) string {
		return strings.TrimSuffix(strings.TrimPrefix(port, "0.0.0.0:"), "/tcp")
	}), " ")
}

// shownImage returns the image without its directory, "-" for none.
func shownImage(b launcher.Status) string {
	if b.Image == "" {
		return "-"
	}
	return filepath.Base(b.Image)
}

// remarks says in brackets what ails the box, what changed since the start of the box, whether the box has drifted, and how
// often the box was started anew; "" for none of these.
func remarks(b launcher.Status, now time.Time) string {
	var words []string
	if b.Health.Why != "" {
		words = append(words, healthText(b, now))
	}
	if len(b.Changed) > 0 {
		words = append(words, strings.Join(b.Changed, ", ")+" changed")
	}
	if len(b.Drift) > 0 {
		words = append(words, "drifted")
	}
	if b.Restarts > 0 {
		words = append(words, fmt.Sprintf("restarted %dx", b.Restarts))
	}
	if len(words) == 0 {
		return ""
	}
	return " (" + strings.Join(words, "; ") + ")"
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// uptime returns how long a box has run, "-" for a box that does not run.
func uptime(b launcher.Status, now time.Time) string {
	if b.PID == 0 {
		return "-"
	}
	return span(now.Sub(b.Started))
}

// span returns a time in the largest unit with a count of two or more.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/day)
}
