package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"boxrun/cmd/boxrun/rows"
	"boxrun/launcher"
	"boxrun/launcher/fault"
	"boxrun/launcher/units"
	"boxrun/profiles"
)

func psCommand(a *app) *cobra.Command {
	var all, drift bool
	cmd := a.withJSON(&cobra.Command{
		Use:     "ps [PROFILE...]",
		Aliases: []string{"ls", "list"},
		Short:   "List the boxes",
		Long: `ps, or ls, lists the boxes: those that run, are starting or stopping, and those
that have crashed, of which "boxrun up" or "boxrun down" clears away what is
left. With names it lists those alone.

ENABLED is whether a box is started at boot, MEM what the whole box uses. Ports
are tcp, and open on all addresses, where they do not say otherwise. Behind the
image stands what ails the box, what has changed since the start, and how often
systemd has started the box anew. On a terminal that is too narrow for the table
long cells end in "...", and then columns are left out, the last one first.

Of a box with health.interval in its profile STATE is what the last look found:
healthy or unhealthy. Nobody looks at others: they are running, or unhealthy
where a unit that [ready] names has ended. Any box is degraded where another
service that its systemd starts at boot has ended, or a unit failed; of a box
that nobody looks at, at its start. Root also reads "drifted" there where rules,
links or limits of a box are out of place; --drift asks for root.

"boxrun status" and --json tell more.`,
		Example: `  boxrun ps
  boxrun ps -a
  boxrun ps --json`,
		ValidArgsFunction: a.tab().Boxes,
		PreRunE: func(cmd *cobra.Command, names []string) error {
			if drift {
				return a.asRoot(cmd, names)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, names []string) error {
			look := a.launcher().List
			if a.quiet && !a.asJSON {
				look = a.launcher().ListNames
			}
			boxes, err := a.listed(cmd.Context(), look, all || len(names) > 0)
			if len(names) > 0 && err == nil {
				boxes, err = a.named(boxes, names)
			}
			if err != nil && len(boxes) == 0 {
				return err
			}
			return errors.Join(err, a.table(boxes, 2, rows.Ps(boxes, time.Now())))
		},
	})
	cmd.Flags().BoolVarP(&a.quiet, "quiet", "q", false, "print names only")
	cmd.Flags().BoolVarP(&all, "all", "a", false, "also profiles that are not up")
	cmd.Flags().BoolVar(&drift, "drift", false, "become root, who sees whether boxes have drifted")
	return cmd
}

// listed returns the boxes as look gives them, and with all also the profiles without a box. Beside an error listed returns
// the boxes it could read.
func (a *app) listed(ctx context.Context, look func(context.Context) ([]launcher.Status, error), all bool) ([]launcher.Status, error) {
	boxes, unread := look(ctx)
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

// named returns the boxes of args, in the same order. For an arg without one named notes that its box is not up, or
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
