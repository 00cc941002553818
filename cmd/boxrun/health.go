package main

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"boxrun/launcher"
	"boxrun/launcher/box"
	"boxrun/launcher/health"
	"boxrun/profiles"
)

// healthCommand looks at a box once. Only units of the host's systemd run this verb: the unit of a box's timer, and with
// --restart the unit for a new start of an unhealthy box.
func healthCommand(a *app) *cobra.Command {
	var restart bool
	cmd := &cobra.Command{
		Use:     "health NAME",
		Short:   "Look at a box once, for its timer",
		Hidden:  true,
		Args:    args(cobra.ExactArgs(1)),
		PreRunE: a.asRoot,
		RunE: func(cmd *cobra.Command, names []string) error {
			if restart {
				return a.heal(cmd, names[0])
			}
			line, err := a.launcher().LookAfter(cmd.Context(), names[0])
			if line != "" {
				a.note(line)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&restart, "restart", false, "start the box anew where looks found it unhealthy")
	return cmd
}

// heal starts an unhealthy box anew, with its profile as it is now.
func (a *app) heal(cmd *cobra.Command, name string) error {
	l := a.launcher()
	p, err := l.Reread(name)
	if err == nil {
		err = a.trust(cmd.Context(), p)
	}
	if err != nil {
		return err
	}
	up, err := l.Up(cmd.Context(), p, launcher.UpOptions{Unhealthy: true})
	if up.Started {
		a.notef("%s: was restarted, as it was unhealthy", name)
	}
	return errors.Join(err, up.Killed)
}

// The exit codes of status --check beside exitDone, exitNotFound and exitNotReady, as its help lists them.
const (
	exitUnhealthy = 10
	exitCrashed   = 11
	exitDrifted   = 12
	exitBusy      = 13
)

// checkCode returns the exit code of status --check for a word.
func checkCode(word string) int {
	switch word {
	case health.Down:
		return exitNotFound
	case health.NotReady:
		return exitNotReady
	case string(health.Unhealthy):
		return exitUnhealthy
	case box.Crashed:
		return exitCrashed
	case health.Drifted:
		return exitDrifted
	case health.Busy:
		return exitBusy
	}
	return exitDone
}

// check prints how a box is, in a single line, and ends with the code for this state: watch later, or when the box dies.
func (a *app) check(cmd *cobra.Command, arg string, watch time.Duration) error {
	name := profiles.BoxName(arg)
	f, err := a.launcher().Check(cmd.Context(), name, watch)
	if err != nil {
		return err
	}
	return errors.Join(a.lines([]string{name + ": " + f.String()}), ended(checkCode(f.Word())))
}
