package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"boxrun/cmd/boxrun/given"
	"boxrun/cmd/boxrun/habits"
	"boxrun/launcher"
	"boxrun/launcher/build"
	"boxrun/launcher/fault"
	"boxrun/launcher/network"
	"boxrun/profiles"
)

func upCommand(a *app) *cobra.Command {
	var o launcher.UpOptions
	timeout := given.Timeout()
	var build, dryRun bool
	cmd := &cobra.Command{
		Use:     "up PROFILE...",
		Aliases: []string{"start"},
		Short:   "Bring boxes up, or check and mend those that are up",
		Long: `up makes sure the host's network is in place, starts the box, publishes its
ports, and waits until the systemd in the box has booted and what [ready] of
the profile asks for answers. What depends_on names is brought up first.

On a box that is up it checks all of that and mends what drifted; published
ports, allow_from and limits follow an edited profile while the box runs, all
else with --replace, which starts it anew. A box that is not ready in time stays
up, to be looked at (exit code 5); of one that did not start nothing is left
(4). Several profiles come up side by side, each after those that it depends on;
all are tried, and the exit code is that of the first that failed.`,
		Example: `  boxrun up web
  boxrun up --dry-run web
  boxrun up --timing web
  boxrun up --build web
  boxrun up --replace --wait-timeout 3m web`,
		Args:              args(cobra.MinimumNArgs(1)),
		ValidArgsFunction: a.tab().Profiles,
		PreRunE:           unless(&dryRun, a.asRootFor),
		RunE: func(cmd *cobra.Command, names []string) error {
			o.Timeout = timeout.Value
			run := a.launcher().DryRun()
			if dryRun {
				return a.each(func(ctx context.Context, name string) error { return a.printUp(ctx, name, run, o, build) })(cmd, names)
			}
			up := (*app).up
			if build {
				up = (*app).upBuilt
			}
			return a.sideBySide(cmd, names, a.needed, func(ctx context.Context, a *app, name string) error { return up(a, ctx, name, o) })
		},
	}
	cmd.Flags().BoolVar(&o.NoWait, "no-wait", false, "return when the ports are published, without waiting until the box is ready")
	cmd.Flags().Var(timeout, "wait-timeout", "wait for `DURATION`, as in 90s or 2m30s, until the box is ready (default: the profile's timeout)")
	cmd.Flags().BoolVar(&o.Replace, "replace", false, "stop and start anew a box whose profile, secrets or image changed since its start")
	cmd.Flags().BoolVar(&o.Force, "force", false, "take the overlay over from another machine, which must be off or have no such box any more")
	cmd.Flags().BoolVar(&build, "build", false, "first build the image where it is missing or its definition changed, then as with --replace")
	cmd.Flags().BoolVar(&o.Timing, "timing", false, "print what boxrun, systemd, Apptainer and the box's systemd each took")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print the commands that up would run, and run none")
	habits.DoneAnyway(cmd, "detach", "d")
	for _, flag := range []string{"wait", "no-build", "no-recreate", "remove-orphans"} {
		habits.DoneAnyway(cmd, flag, "")
	}
	return cmd
}

// up brings up a box and the boxes it depends on, and prints what was done. The error joins the failure of the start
// with up.Killed, the error of an old box that had to be killed.
func (a *app) up(ctx context.Context, name string, o launcher.UpOptions) error {
	p, err := a.profile(ctx, name)
	if err != nil {
		return err
	}
	l := a.launcher()
	if o.Turn = a.turn; len(p.DependsOn) > 0 || o.Replace {
		o.Turn.End() // others need not wait for what may take long
	}
	if err := a.upNeeded(ctx, l, p); err != nil {
		return err
	}
	began := time.Now()
	up, err := l.Up(ctx, p, o)
	a.live("")
	a.noteHost(p.Name, up)
	if up.Box != nil && (err == nil || launcher.Stays(err)) {
		a.noteUp(up, time.Since(began))
		a.noteNext(up, err)
		if up.Times != nil {
			err = errors.Join(err, a.spaced(2, up.Times.Rows()))
		}
	}
	return errors.Join(err, up.Killed)
}

// upBuilt builds the image of a profile where the image is missing or outdated, then brings the box up as with
// --replace. A profile without [build] uses its image as it is.
func (a *app) upBuilt(ctx context.Context, name string, o launcher.UpOptions) error {
	p, err := a.profile(ctx, name)
	if err != nil {
		return err
	}
	if p.Build.Definition == "" {
		a.notef("%s: has no [build], and uses its image as it is", p.Name)
	} else if err := a.build(ctx, p, build.Options{IfNeeded: true, Replacing: p.Name}); err != nil {
		return err
	}
	o.Replace = true
	return a.up(ctx, name, o)
}

// noteUp prints on stderr what up did. Nothing goes to stdout, as the result of up is the box and not a text.
func (t *terminal) noteUp(up launcher.Up, took time.Duration) {
	name := up.Box.Name
	for _, line := range up.Followed {
		t.notef("%s: follows its profile: %s", name, line)
	}
	for _, line := range up.Repaired {
		t.notef("%s: mended: %s", name, line)
	}
	switch {
	case up.Started:
		t.notef("%s: started %s in %.1fs", name, up.Box.Where(), took.Seconds())
	case len(up.Repaired)+len(up.Followed) == 0:
		t.notef("%s: is up %s, %s", name, up.Box.Where(), nothingTo(up))
	}
	if up.Started || len(up.Followed) > 0 {
		for _, line := range network.Exposure(up.Box) {
			t.notef("%s: %s", name, line)
		}
	}
	anew := fmt.Sprintf("\"boxrun up --replace %s\" starts it anew%s", name, up.Box.Loses())
	if up.Since.Profile != "" {
		t.notef("%s: runs with an older version of its profile, \"boxrun diff %s\" shows what differs: %s", name, name, anew)
	}
	if up.Since.Image != "" {
		t.notef("%s: its image was %s since the start: %s", name, up.Since.Image, anew)
	}
	for _, secret := range up.Since.Secrets {
		t.notef("%s: secrets.%s has changed since the start: %s", name, secret, anew)
	}
	for _, unit := range up.Ended {
		t.notef("%s: warning: %s has ended: \"boxrun exec %[1]s -- systemctl start %[2]s\" starts it", name, unit)
	}
	for _, failed := range up.Failed {
		t.notef("%s: warning: %s failed", name, failed.Unit)
		for _, line := range failed.Log {
			t.note("    " + line)
		}
	}
}

// nothingTo returns what to say of an up that did nothing: that the box stays as it is where something changed since the
// start (noteUp prints the changes afterwards), else "nothing to change".
func nothingTo(up launcher.Up) string {
	if len(up.Since.Words()) > 0 {
		return "and stays as it is"
	}
	return "nothing to change"
}

// noteNext prints what a person can do next with a box that is up: the profile's hint, unless the box is not ready, and
// that post_up has not run. After a failed command of post_up the error says so, and noteNext is silent about post_up.
func (t *terminal) noteNext(up launcher.Up, err error) {
	if hint := network.Hint(up.Box); hint != "" && !errors.Is(err, fault.ErrNotReady) {
		t.notef("%s: %s", up.Box.Name, hint)
	}
	if name := up.Box.Name; up.Box.HooksDue && !errors.Is(err, fault.ErrHook) {
		t.notef("%s: post_up has not run: \"boxrun up %s\" runs it when the box is ready", name, name)
	}
}

// noteHost prints what changed in the host's network while a box booted, and the commands to revert the changes.
func (t *terminal) noteHost(name string, up launcher.Up) {
	for _, c := range up.Host {
		t.notef("%s: the host's network changed while it booted: %s", name, c.What)
		if c.Revert != "" {
			t.note("    to take it back: " + c.Revert)
		}
	}
}

// printUp prints the commands of up for a profile, after those for its dependencies: all of them, or none where
// something is refused. run remembers what earlier calls have printed.
func (a *app) printUp(ctx context.Context, name string, run *launcher.DryRun, o launcher.UpOptions, build bool) error {
	p, err := a.profile(ctx, name)
	if err != nil {
		return err
	}
	needed, err := a.dependencies(ctx, p)
	if err != nil {
		return err
	}
	var all []string
	for _, q := range needed {
		commands, err := run.Up(ctx, q, launcher.UpOptions{})
		if err != nil {
			return fmt.Errorf("%s, on which %s depends: %w", q.Name, p.Name, err)
		}
		if len(commands) > 0 {
			all = append(all, fmt.Sprintf("# %s, on which %s depends: up waits here until it is ready", q.Name, p.Name))
			all = append(append(all, commands...), "# "+p.Name)
		}
	}
	o.Replace = o.Replace || build
	if build {
		commands, err := run.Build(ctx, p)
		if err != nil {
			return err
		}
		all = append(all, commands...)
	}
	commands, err := run.Up(ctx, p, o)
	return a.commands(append(all, commands...), err)
}

// profile finds and reads the profile a person named. As root, a profile that others may have written is refused.
func (a *app) profile(ctx context.Context, name string) (profiles.Profile, error) {
	p, err := a.search.Load(name)
	if err == nil {
		err = a.trust(ctx, p)
	}
	return p, err
}
