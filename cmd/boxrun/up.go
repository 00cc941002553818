package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"boxrun/launcher"
	"boxrun/launcher/build"
	"boxrun/launcher/fault"
	"boxrun/launcher/network"
	"boxrun/profiles"
)

func (a *app) upCommand() *cobra.Command {
	var o launcher.UpOptions
	var timeout timeoutFlag
	var build, dryRun bool
	cmd := &cobra.Command{
		Use:   "up PROFILE...",
		Short: "Bring boxes up, or check and mend those that are up",
		Long: `up makes sure the host's network is in place, starts the box, publishes its
ports, and waits until the systemd in the box has booted and what [ready] of
the profile asks for answers. What depends_on names is brought up first.

On a box that is up it checks all of that and mends what drifted. A box that is
not ready in time stays up, to be looked at (exit code 5); of one that did not
start nothing is left (4). Of several profiles all are tried, and the exit code
is that of the first that failed.`,
		Example: `  boxrun up web
  boxrun up --dry-run web
  boxrun up --build web
  boxrun up --replace --wait-timeout 3m web`,
		Args:              args(cobra.MinimumNArgs(1)),
		ValidArgsFunction: a.completeProfiles,
		RunE: func(cmd *cobra.Command, names []string) error {
			o.Timeout = timeout.given
			if dryRun {
				l, err := a.launcher()
				if err != nil {
					return err
				}
				run := l.DryRun()
				return a.each(cmd, names, func(ctx context.Context, name string) error { return a.printUp(ctx, name, run, o, build) })
			}
			if err := a.needRootFor("up", names); err != nil {
				return err
			}
			return a.each(cmd, names, func(ctx context.Context, name string) error {
				if build {
					return a.upBuilt(ctx, name, o)
				}
				return a.up(ctx, name, o)
			})
		},
	}
	cmd.Flags().BoolVar(&o.NoWait, "no-wait", false, "return when the ports are published, without waiting until the box is ready")
	cmd.Flags().Var(&timeout, "wait-timeout", "wait for `DURATION`, as in 90s or 2m30s, until the box is ready (default: the profile's timeout)")
	cmd.Flags().BoolVar(&o.Replace, "replace", false, "stop and start anew a box whose profile, secrets or image changed since its start")
	cmd.Flags().BoolVar(&build, "build", false, "first build the image where it is missing or its definition changed, then as with --replace")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print the commands that up would run, and run none")
	return cmd
}

// each does one thing for every name. All are tried; the error returned is that of the first that failed, after those
// of the others have been printed.
func (a *app) each(cmd *cobra.Command, names []string, do func(context.Context, string) error) error {
	if len(names) == 1 {
		return do(cmd.Context(), names[0])
	}
	code := exitDone
	for _, name := range names {
		if cmd.Context().Err() != nil { // an interrupt is for all of them
			return context.Cause(cmd.Context())
		}
		if c := a.report(cmd, do(cmd.Context(), name)); code == exitDone {
			code = c
		}
	}
	if code != exitDone {
		return codeError(code)
	}
	return nil
}

// up brings one box up and says what was done.
func (a *app) up(ctx context.Context, name string, o launcher.UpOptions) error {
	p, err := a.profile(name)
	if err != nil {
		return err
	}
	l, err := a.launcher()
	if err != nil {
		return err
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
	}
	return errors.Join(err, up.Killed)
}

// upBuilt is up with the image that its definition describes: it builds first where that is not what is there.
func (a *app) upBuilt(ctx context.Context, name string, o launcher.UpOptions) error {
	p, err := a.profile(name)
	if err != nil {
		return err
	}
	if p.Build.Definition == "" {
		a.notef("%s: has no [build], and uses its image as it is", p.Name)
	} else if err := a.build(ctx, p, build.Options{Outdated: true, Replacing: p.Name}); err != nil {
		return err
	}
	o.Replace = true
	return a.up(ctx, name, o)
}

// noteUp says on stderr what an up did: its result is the box, not a text.
func (a *app) noteUp(up launcher.Up, took time.Duration) {
	name := up.Box.Name
	for _, line := range up.Mended {
		a.notef("%s: mended: %s", name, line)
	}
	switch {
	case up.Started:
		a.notef("%s: started %s in %.1fs", name, up.Box.Where(), took.Seconds())
		for _, line := range network.Exposure(up.Box) {
			a.notef("%s: %s", name, line)
		}
	case len(up.Mended) == 0:
		a.notef("%s: is up %s, %s", name, up.Box.Where(), nothingTo(up))
	}
	if up.Changed {
		a.notef("%s: runs with an older version of its profile: \"boxrun up --replace %s\" starts it anew", name, name)
	}
	if up.Image != "" {
		a.notef("%s: its image was %s since the start: \"boxrun up --replace %s\" starts it anew", name, up.Image, name)
	}
	for _, secret := range up.Secrets {
		a.notef("%s: secrets.%s has changed since the start: \"boxrun up --replace %s\" starts it anew", name, secret, name)
	}
	for _, failed := range up.Failed {
		a.notef("%s: warning: %s failed", name, failed.Unit)
		for _, line := range failed.Log {
			a.note("    " + line)
		}
	}
}

// nothingTo says what an up that did nothing had no reason for. What has changed since the start is told after it.
func nothingTo(up launcher.Up) string {
	if up.Changed || up.Image != "" || len(up.Secrets) > 0 {
		return "nothing to mend"
	}
	return "nothing to change"
}

// noteNext says what there is to do next with a box that is up: what its profile hints at when it is ready, and what of
// post_up has not run. Of a command that failed the error tells.
func (a *app) noteNext(up launcher.Up, err error) {
	if hint := up.Box.Profile.Ready.Hint; hint != "" && !errors.Is(err, fault.ErrNotReady) {
		a.notef("%s: %s", up.Box.Name, hint)
	}
	if name := up.Box.Name; up.Box.HooksDue && !errors.Is(err, fault.ErrHook) {
		a.notef("%s: post_up has not run: \"boxrun up %s\" runs it when the box is ready", name, name)
	}
}

// noteHost says what has changed of the host's network while a box booted in it, and how to take that back.
func (a *app) noteHost(name string, up launcher.Up) {
	for _, c := range up.Host {
		a.notef("%s: the host's network changed while it booted: %s", name, c.What)
		if c.Revert != "" {
			a.note("    to take it back: " + c.Revert)
		}
	}
}

// printUp prints what up would run for one profile, after those it depends on. The run knows what was printed before.
func (a *app) printUp(ctx context.Context, name string, run *launcher.DryRun, o launcher.UpOptions, build bool) error {
	p, err := a.profile(name)
	if err != nil {
		return err
	}
	needed, err := a.search.Dependencies(p)
	if err != nil {
		return err
	}
	for _, q := range needed {
		if err := a.trust(q); err != nil {
			return err
		}
		if err := a.printDependency(run, q, p); err != nil {
			return err
		}
	}
	o.Replace = o.Replace || build
	var first []string
	if build {
		if first, err = run.Build(ctx, p); err != nil {
			return err
		}
	}
	commands, err := run.Up(p, o)
	if err != nil {
		return err
	}
	return a.lines(append(first, commands...))
}

// printDependency prints what up would run for q, on which p depends.
func (a *app) printDependency(run *launcher.DryRun, q, p profiles.Profile) error {
	commands, err := run.Up(q, launcher.UpOptions{})
	if err != nil {
		return fmt.Errorf("%s, on which %s depends: %w", q.Name, p.Name, err)
	}
	if len(commands) == 0 {
		return nil
	}
	heading := fmt.Sprintf("# %s, on which %s depends: up waits here until it is ready", q.Name, p.Name)
	return a.lines(append(append([]string{heading}, commands...), "# "+p.Name))
}

func (a *app) lines(lines []string) error {
	if len(lines) == 0 {
		return nil
	}
	_, err := a.out.WriteString(strings.Join(lines, "\n") + "\n")
	return err
}

// profile finds and reads the profile a person named, and refuses one that somebody else may have written.
func (a *app) profile(name string) (profiles.Profile, error) {
	p, err := a.search.Load(name)
	if err != nil {
		return p, err
	}
	return p, a.trust(p)
}
