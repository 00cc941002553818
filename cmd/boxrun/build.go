package main

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"boxrun/launcher/build"
	"boxrun/launcher/files"
	"boxrun/profiles"
)

func buildCommand(a *app) *cobra.Command {
	var o build.Options
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "build PROFILE...",
		Short: "Build images from the definitions that profiles name",
		Long: `build makes the image of a profile with "apptainer build" from the definition
file that its [build] names, and puts it in place of the old one when it is
complete: a build that fails, or that is interrupted, leaves the image as it
was. It is a SIF where the image's name ends in .sif, else a sandbox directory.

The definition runs as root on this host, so it must be writable for root and
you alone, as a profile must, and so must the image's directory. Relative paths
of its %files begin at it. A build needs room for the unpacked image beside the
image. What the image was built from is noted in IMAGE.boxrun.json.

An image that a box runs from is not replaced without --force: the box would go
on with the old one. "boxrun up --build" builds where the definition has
changed, and starts the box anew.`,
		Example: `  boxrun build web
  boxrun build --dry-run web`,
		Args:              args(cobra.MinimumNArgs(1)),
		ValidArgsFunction: a.tab().Build,
		PreRunE:           unless(&dryRun, a.asRootFor),
		RunE: func(cmd *cobra.Command, names []string) error {
			return a.sideBySide(cmd, names, func(string) []string { return nil }, func(ctx context.Context, a *app, name string) error {
				p, err := a.profile(ctx, name)
				switch {
				case err != nil:
					return err
				case dryRun:
					return a.commands(build.Typed(a.launcher().Store, p))
				}
				return a.build(ctx, p, o)
			})
		},
	}
	cmd.Flags().BoolVar(&o.Force, "force", false, "replace an image that a box runs from, or a directory that boxrun did not build")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print the commands that build would run, and run none")
	return cmd
}

// build builds the image of a profile and prints the result. A definition or directory that others could change is
// refused.
func (a *app) build(ctx context.Context, p profiles.Profile, o build.Options) error {
	if err := a.trustBuild(ctx, p); err != nil {
		return err
	}
	o.Version, o.Show = version, a.screen.Note
	if a.beside {
		o.Show = func(line string) { a.notef("%s: %s", p.Name, line) }
	}
	began := time.Now()
	done, err := build.Run(ctx, a.launcher().Store, p, o)
	if done.Built {
		a.notef("%s: built %s in %.1fs", p.Name, done.Image, time.Since(began).Seconds())
	}
	if done.Kept != "" && o.Replacing == "" {
		a.notef("%s: the box that is up keeps the old image, in %s until it goes down", p.Name, done.Kept)
	}
	return err
}

// trustBuild refuses a definition, or a directory of the image, that others could change. The definition runs as root.
func (a *app) trustBuild(ctx context.Context, p profiles.Profile) error {
	paths := []string{p.Build.Definition, filepath.Dir(p.Image)}
	if image, err := files.Within(ctx, func() (string, error) { return filepath.EvalSymlinks(p.Image) }); err == nil {
		paths = append(paths, filepath.Dir(image)) // the image is built beside the target of links
	}
	for _, path := range paths {
		err := a.trustFile(ctx, path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // the launcher words absence better, or creates the place
			return err
		}
	}
	return nil
}
