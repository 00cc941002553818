package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"boxrun/cmd/boxrun/rows"
	"boxrun/cmd/boxrun/tab"
	"boxrun/launcher"
	"boxrun/launcher/box"
	"boxrun/launcher/doctor"
	"boxrun/launcher/fault"
	"boxrun/profiles"
)

// doctorFlags are the flags of doctor.
type doctorFlags struct{ fix, selfTest, verbose bool }

func doctorCommand(a *app) *cobra.Command {
	var f doctorFlags
	cmd := a.withJSON(&cobra.Command{
		Use:   "doctor [PROFILE]",
		Short: "Check the host, and the way to a box port by port",
		Long: `doctor looks at everything boxes need of the host, and follows packets to each
box that is up, or to the one named: port by port, in the order a packet goes,
and out again. Below a WARN or FAIL stand why it matters and the command that
mends it. A terminal gets these alone, and the number of checks that passed; -v
has a line for each. Without --fix nothing is changed. The exit code is 1 where
something failed.`,
		Example: `  boxrun doctor web
  boxrun doctor --fix
  boxrun doctor --self-test`,
		Args:              args(cobra.MaximumNArgs(1)),
		ValidArgsFunction: tab.First(a.tab().Profiles),
		RunE: func(cmd *cobra.Command, names []string) error {
			if f.selfTest && len(names) > 0 {
				return usageError{errors.New("--self-test brings a box of its own")}
			}
			if err := a.asRootFor(cmd, names); err != nil {
				return err
			}
			return a.doctor(cmd.Context(), names, f)
		},
	})
	cmd.Flags().BoolVar(&f.fix, "fix", false, "mend what is boxrun's before checking: rules, leases, what dead boxes left")
	cmd.Flags().BoolVar(&f.selfTest, "self-test", false, "bring up the built-in hello box for it, and take it down again")
	cmd.Flags().BoolVarP(&f.verbose, "verbose", "v", false, "a line for each check on a terminal as well")
	return cmd
}

// doctor examines the host and boxes, and prints the checks. With f.fix it mends first. A failed check is exit code 1.
func (a *app) doctor(ctx context.Context, names []string, f doctorFlags) error {
	l := a.launcher()
	if f.fix {
		done, err := l.RepairAll(ctx)
		for _, line := range done.Lines {
			a.note("mended: " + line) // on stderr: the result of doctor is the checks
		}
		if err != nil {
			return err
		}
	}
	checks, err := a.examine(ctx, l, names, f)
	if err != nil {
		return err
	}
	if err := a.printChecks(checks, f.verbose); err != nil {
		return err
	}
	if doctor.Failed(checks) {
		return codeError(exitFailed)
	}
	return nil
}

// examine examines the host, and the box of names. With a profile gone or invalid the box is examined as started.
// Without such a box examine returns the profile's error, unless there is no profile either.
func (a *app) examine(ctx context.Context, l *launcher.Launcher, names []string, f doctorFlags) ([]doctor.Check, error) {
	switch {
	case f.selfTest:
		hello, err := a.search.Load("builtin:hello")
		if err != nil {
			return nil, err
		}
		return doctor.SelfTest(ctx, l, hello)
	case len(names) == 0:
		return doctor.Examine(ctx, l, doctor.Subject{Now: a.now})
	}
	name := profiles.BoxName(names[0])
	p, unread := a.profile(ctx, names[0])
	if unread == nil {
		return doctor.Examine(ctx, l, doctor.Subject{Name: name, Profile: &p, Now: a.now})
	}
	checks, err := doctor.Examine(ctx, l, doctor.Subject{Name: name, Now: a.now})
	if errors.Is(err, fault.ErrNotFound) && !errors.Is(unread, profiles.ErrNotFound) {
		return nil, unread
	}
	return checks, err
}

// now returns the profile of a box as up would take it now.
func (a *app) now(ctx context.Context, b *box.Box) launcher.Now {
	now := launcher.NowOf(a.launcher().Store, b)
	if now.Unread == nil {
		now.Unread = a.trust(ctx, now.Profile)
	}
	return now
}

// printChecks prints the checks: on a terminal the problems first and the rest counted, elsewhere, and with all, a line
// for each.
func (t *terminal) printChecks(checks []doctor.Check, all bool) error {
	if t.asJSON {
		return t.json(checks)
	}
	lines := rows.Checks(checks)
	if !all && t.isTerminal() {
		lines = rows.Problems(checks, t.colours())
	}
	if err := t.write(lines); err != nil {
		return err
	}
	t.note(rows.Count(checks))
	return nil
}
