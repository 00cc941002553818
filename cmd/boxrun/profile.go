package main

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"boxrun/cmd/boxrun/first"
	"boxrun/cmd/boxrun/tab"
	"boxrun/launcher/fault"
	"boxrun/profiles"
)

func profileCommand(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:   "profile",
		Short: "List, show, check and begin profiles",
		Long: `profile is about the files that describe boxes. What can be in one is in
boxrun.toml(5), and in the file that "boxrun profile init NAME" writes.`,
	}, profileListCommand(a), profileShowCommand(a), profileCheckCommand(a), profileInitCommand(a))
}

func profileListCommand(a *app) *cobra.Command {
	cmd := a.withJSON(&cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the profiles that are found, and where",
		Long: `list prints the profiles that are found and the file of each: in the current
directory, in $BOXRUN_PROFILES, ~/.config/boxrun/profiles, /etc/boxrun/profiles,
/usr/share/boxrun/profiles, and those built into boxrun. Of a name the first one
counts; of a box that is up the file it was started from. Others are not used.`,
		Example: `  boxrun profile list`,
		Args:    args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			found, err := a.search.List()
			if err != nil {
				return err
			}
			return a.table(found, 3, profileRows(found))
		},
	})
	cmd.Flags().BoolVarP(&a.quiet, "quiet", "q", false, "print names only")
	return cmd
}

// profileRows returns a header and a row for each profile.
func profileRows(found []profiles.Found) [][]string {
	rows := [][]string{{"NAME", "FILE", "DESCRIPTION"}}
	for _, f := range found {
		about := f.Description
		switch {
		case f.ShadowedBy != "":
			about = "not used: " + f.ShadowedBy + " counts"
		case f.Err != nil:
			about = "invalid: \"boxrun profile check " + f.Name + "\" says why"
		}
		rows = append(rows, []string{f.Name, f.File, about})
	}
	return rows
}

func profileShowCommand(a *app) *cobra.Command {
	return a.withJSON(&cobra.Command{
		Use:   "show PROFILE",
		Short: "Print a profile with all its effective values",
		Long: `show prints a profile with every key and the value that holds: defaults filled
in, paths absolute, %i replaced.`,
		Example: `  boxrun profile show web
  boxrun profile show --json web`,
		Args:              args(cobra.ExactArgs(1)),
		ValidArgsFunction: tab.First(a.tab().Profiles),
		RunE: func(_ *cobra.Command, names []string) error {
			a.noteOthers(names)
			p, err := a.search.Load(names[0])
			if err != nil {
				return err
			}
			if a.asJSON {
				return a.json(p.Shown())
			}
			text, err := p.TOML()
			if err != nil {
				return err
			}
			_, err = a.out.Write(text)
			return err
		},
	})
}

func profileCheckCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "check PROFILE...",
		Short: "Check profiles, and print everything that is wrong with them",
		Long: `check prints everything that is wrong with a profile, each with file, line and
key (exit code 2), and what "boxrun up" would miss on this host: image, binds,
overlay, secrets, interfaces, limits (exit code 1); who could have written the
profile, and the profiles it depends on (2). Whether ports are free at the time
is for "boxrun up", which refuses before it changes anything.`,
		Example:           `  boxrun profile check web`,
		Args:              args(cobra.MinimumNArgs(1)),
		ValidArgsFunction: a.tab().Profiles,
		RunE: func(cmd *cobra.Command, names []string) error {
			a.noteOthers(names)
			return fault.Each(names, func(name string) error {
				p, err := a.search.Load(name)
				if err == nil {
					err = errors.Join(a.wouldTrust(cmd.Context(), p), a.launcher().RefuseHere(cmd.Context(), p))
				}
				if err == nil {
					a.notef("%s: is valid", p.File)
				}
				return err
			})
		},
	}
}

func profileInitCommand(a *app) *cobra.Command {
	var f profiles.First
	cmd := &cobra.Command{
		Use:   "init NAME [IMAGE]",
		Short: "Write NAME.toml, a new profile with every key explained",
		Long: `init writes NAME.toml into the current directory: a profile with every key
explained and its default as a comment. IMAGE is a SIF file, or a directory with
a root file system, that has a systemd. --publish has the box reached, and its
ports looked at: whether they accept connections, at the start and every 30 s.`,
		Example: `  boxrun profile init wiki
  boxrun profile init -p 8088:80 shop /srv/shop`,
		Args: args(cobra.RangeArgs(1, 2)),
		RunE: func(_ *cobra.Command, words []string) error {
			name := words[0]
			if len(words) == 1 && (profiles.IsImage(name) || strings.Contains(name, "/")) {
				return &profiles.ImageError{Image: name}
			}
			f.Image = strings.Join(words[1:], "")
			text, err := profiles.New(name, f)
			if err != nil {
				return usageError{err}
			}
			note, err := first.Write(name, f.Image, text)
			if err == nil {
				a.note(note)
			}
			return err
		},
	}
	cmd.Flags().StringArrayVarP(&f.Ports, "publish", "p", nil, "publish a `PORT` of the box, such as 8080:80; may be given again")
	return cmd
}
