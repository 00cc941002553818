package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"boxrun/launcher"
	"boxrun/launcher/fault"
	"boxrun/launcher/list"
	"boxrun/launcher/pacemaker"
	"boxrun/launcher/units"
	"boxrun/profiles"
)

func enableCommand(a *app) *cobra.Command {
	var now bool
	cmd := &cobra.Command{
		Use:   "enable PROFILE...",
		Short: "Start boxes at boot, and again when they die",
		Long: `enable has systemd start the box at boot as boxrun@PROFILE.service, start it
again when it dies, and put the rules of boxes back after firewalls were
reloaded. It writes the units for that to /etc/systemd/system. A box that is up
is watched from now on, one that is not is left so.

Profiles are those in /etc/boxrun/profiles and /usr/share/boxrun/profiles, and
the built-in ones: at boot nobody but root answers for a profile.`,
		Example: `  boxrun enable web
  boxrun enable --now web`,
		Args:              args(cobra.MinimumNArgs(1)),
		ValidArgsFunction: a.tab().Enable,
		PreRunE:           a.asRootForFiles,
		RunE: a.each(func(ctx context.Context, name string) error {
			if err := a.enable(ctx, name, now); err != nil || !now {
				return err
			}
			return a.up(ctx, name, launcher.UpOptions{})
		}),
	}
	cmd.Flags().BoolVar(&now, "now", false, "bring the box up too")
	return cmd
}

// enable makes systemd start a box at boot, and prints what this means for now. For dependencies that are not enabled,
// enable prints how to have them restarted too. With now, the caller starts the box.
func (a *app) enable(ctx context.Context, name string, now bool) error {
	p, err := a.hostProfile(ctx, name)
	if err != nil {
		return err
	}
	needed, err := profiles.OfHost().Dependencies(p)
	if err != nil {
		return err
	}
	up, err := units.Enable(ctx, a.launcher().Store, p)
	if err != nil {
		return err
	}
	switch {
	case up:
		a.notef("%s: is started at boot, and again when it dies", p.Name)
	case now:
		a.notef("%s: is started at boot", p.Name)
	default:
		a.notef("%s: is started at boot; \"boxrun up %s\" starts it now", p.Name, name)
	}
	if resource, err := pacemaker.ManagerOf(p.Name); resource != "" {
		a.notef("%s: warning: Pacemaker starts it too, as the resource %q: \"boxrun disable %s\"", p.Name, resource, name)
	} else if err != nil {
		a.notef("%s: warning: whether Pacemaker starts it too is unknown: %v", p.Name, err)
	}
	for _, q := range needed {
		if !units.Enabled(q) {
			a.notef("%s: is started with it, but not again when it dies: \"boxrun enable %s\"", q.Name, q.Word())
		}
	}
	return nil
}

// asRootForFiles is asRootFor for a verb on profiles that a boot will find, whatever a box was started from.
func (a *app) asRootForFiles(cmd *cobra.Command, names []string) error {
	a.search.FilesFirst = true
	return a.asRootFor(cmd, names)
}

// hostProfile reads a profile for a start at boot. At boot nobody but root answers for a profile. So the profile must
// be built in or come from a directory of the host, or the error is an ErrInvalid. The profile and its secrets must be
// writable for root alone.
func (a *app) hostProfile(ctx context.Context, name string) (profiles.Profile, error) {
	ref, err := a.search.Find(name)
	if err != nil {
		return profiles.Profile{}, err
	}
	p, err := ref.Read()
	if err != nil {
		return p, err
	}
	if filepath.IsAbs(p.File) && !slices.Contains(profiles.OfHost().Dirs, filepath.Dir(p.File)) {
		return p, fault.Invalid(wayToBoot(p),
			"%s is not for the whole host: systemd starts profiles from /etc/boxrun/profiles and /usr/share/boxrun/profiles", p.File)
	}
	alone := func(file string) error { return trusted(ctx, file, profiles.RootAlone) }
	return p, errors.Join(alone(p.File), trustSecrets(p, alone))
}

// wayToBoot says how a box is started at boot whose profile p a person keeps: by the profile that the host has of the name,
// else by p, once it is the host's, with the files beside it.
func wayToBoot(p profiles.Profile) string {
	if ref, err := profiles.OfHost().Find(p.Word()); err == nil && filepath.IsAbs(ref.File) {
		return fmt.Sprintf("the host has %s: \"boxrun enable %s\"", ref.File, ref)
	}
	there := "/etc/boxrun/profiles/" + filepath.Base(p.File)
	way := "install -D -m 644 " + p.File + " " + there
	beside := slices.DeleteFunc([]string{p.Image, p.Build.Definition}, func(file string) bool { return filepath.Dir(file) != filepath.Dir(p.File) })
	if len(beside) == 0 {
		way += " && boxrun enable " + there
	} else {
		way += ", and beside it what it names by relative paths: " + strings.Join(list.Map(beside, filepath.Base), ", ")
	}
	return way
}
