package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"boxrun/cmd/boxrun/given"
	"boxrun/cmd/boxrun/habits"
	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/list"
	"boxrun/launcher/say"
	"boxrun/launcher/units"
	"boxrun/profiles"
)

func downCommand(a *app) *cobra.Command {
	timeout := given.Timeout()
	var all, dryRun bool
	cmd := &cobra.Command{
		Use:     "down PROFILE... | --all",
		Aliases: []string{"stop"},
		Short:   "Stop boxes, and take away what boxrun put on the host for them",
		Long: `down has the systemd of the box shut down in order, and kills what is left after
stop_timeout of the profile (exit code 6). Then rules, addresses and records of
the box go, and with the last box of a bridge the bridge. The path of an overlay
it keeps is printed. A box that is not up is nothing to do. Of two downs at once
the shorter --timeout counts.

Several boxes go side by side, each after those that depend on it. Boxes that
depend on one that goes, and stay, are named. So are those that lose what they
wrote, as their root is a tmpfs, and those that the next boot starts again.`,
		Example: `  boxrun down web
  boxrun down --timeout 10m web
  boxrun down --all`,
		Args:              args(namesOrAll(&all)),
		ValidArgsFunction: a.tab().Boxes,
		PreRunE:           unless(&dryRun, a.asRoot),
		RunE: a.orAll(&all, func(cmd *cobra.Command, names []string) error {
			l := a.launcher()
			names = l.StopOrder(names)
			for _, line := range l.Bereft(names) {
				a.note("warning: " + line)
			}
			if dryRun {
				return a.each(a.printDowns())(cmd, names)
			}
			a.noteLosses(names)
			return a.sideBySide(cmd, names, l.Dependents(names), func(ctx context.Context, a *app, name string) error {
				return a.down(ctx, name, timeout.Value)
			})
		}),
	}
	stopTimeout(cmd, timeout)
	cmd.Flags().BoolVarP(&all, "all", "a", false, "every box")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print the commands that down would run, and run none")
	habits.DoneAnyway(cmd, "remove-orphans", "")
	return cmd
}

// namesOrAll takes names, or none with --all.
func namesOrAll(all *bool) cobra.PositionalArgs {
	return func(cmd *cobra.Command, names []string) error {
		if *all {
			return cobra.NoArgs(cmd, names)
		}
		return cobra.MinimumNArgs(1)(cmd, names)
	}
}

// orAll returns a verb that does something to the named boxes, or with all to every box. Boxes that could not be read are an
// error, once the others are done.
func (a *app) orAll(all *bool, do verb) verb {
	return func(cmd *cobra.Command, names []string) error {
		if !*all {
			return do(cmd, names)
		}
		names, unread := a.boxNames()
		if err := do(cmd, names); err != nil {
			a.report(cmd, unread)
			return err
		}
		return unread
	}
}

// stopTimeout gives cmd the flag --timeout for the stop of a box.
func stopTimeout(cmd *cobra.Command, timeout *given.Flag[time.Duration]) {
	cmd.Flags().VarP(timeout, "timeout", "t", "kill the box when it has not stopped after `DURATION`, with 0 at once (default: the profile's stop_timeout)")
}

// down takes a box down and prints what was done. The path of a kept overlay goes to stdout. Where there is no box,
// down reports so as notUp does. A box killed after its time is down too, with the error ErrKilled.
func (a *app) down(ctx context.Context, arg string, timeout *time.Duration) error {
	name := profiles.BoxName(arg)
	down, err := a.launcher().Down(ctx, name, timeout)
	a.live("")
	if err != nil && !errors.Is(err, fault.ErrKilled) {
		return err
	}
	if down.Left {
		return nil
	}
	if !down.Found {
		return a.notUp(arg, name)
	}
	if down.Killed {
		a.notef("%s: is down, killed at once", name)
	} else {
		a.notef("%s: is down", name)
	}
	if units.EnabledAs(name) != "" && a.caller.Unit == "" {
		a.notef("%s: the next boot starts it again: \"boxrun disable %[1]s\" ends that", name)
	}
	if down.Overlay != "" {
		if err := a.screen.Result(say.Plain(down.Overlay)+"\n", noteOf(name+": kept its data:")); err != nil {
			return err
		}
	}
	return err
}

// noteLosses says what goes with boxes that a person stops.
func (a *app) noteLosses(args []string) {
	if line := a.launcher().Losing(list.Map(args, profiles.BoxName)); line != "" && a.caller.Unit == "" {
		a.note(line)
	}
}

// notUp reports a box down already, as absent does.
func (a *app) notUp(arg, name string) error {
	return a.absent(arg, name, "is not up", "there is neither a box nor a profile named %q%s", "\"boxrun ps -a\" lists both")
}

// absent reports that a verb has nothing to do for the box of arg. With a profile of the name this is a note,
// "name: is". Without, this is an ErrNotFound with a hint: missing formats its text, from arg and a guess at the name.
func (a *app) absent(arg, name, is, missing, hint string) error {
	if _, err := a.search.Load(arg); errors.Is(err, profiles.ErrNotFound) {
		if word, _ := a.search.Knows(name); word == "" {
			text := fmt.Sprintf(missing, arg, a.launcher().DidYouMean(name))
			return &fault.Problem{Kind: fault.ErrNotFound, Text: text, Hint: hint}
		}
	}
	boxes, _ := a.boxNames() // names that could be read are returned beside an error
	instances := slices.DeleteFunc(boxes, func(box string) bool { return !strings.HasPrefix(box, name+"-") })
	if len(instances) > 0 {
		is += "; there are " + strings.Join(instances, ", ")
	}
	a.notef("%s: %s", name, is)
	return nil
}

// printDowns returns a function that prints the commands of down for a box. The function remembers the boxes of earlier
// calls, and treats them as down.
func (a *app) printDowns() func(context.Context, string) error {
	var gone []string // boxes that would be down by now
	return func(ctx context.Context, arg string) error {
		name := profiles.BoxName(arg)
		commands, err := a.launcher().DownCommands(ctx, name, gone...)
		if errors.Is(err, fault.ErrNotFound) || slices.Contains(gone, name) {
			return a.notUp(arg, name)
		}
		if err == nil {
			gone = append(gone, name)
		}
		return a.commands(commands, err)
	}
}

// boxNames returns the names of all boxes. Beside an error boxNames returns the names it could read.
func (a *app) boxNames() ([]string, error) {
	l := a.launcher()
	boxes, err := l.All()
	return append(box.Names(boxes), l.Lost()...), err
}
