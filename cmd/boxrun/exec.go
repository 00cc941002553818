package main

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"boxrun/cmd/boxrun/habits"
	"boxrun/cmd/boxrun/tab"
	"boxrun/launcher/conf"
	"boxrun/launcher/enter"
	"boxrun/profiles"
)

func execCommand(a *app) *cobra.Command {
	var e enter.Command
	var tty, noTTY bool
	cmd := &cobra.Command{
		Use:   "exec [flags] PROFILE -- COMMAND...",
		Short: "Run a command in a box",
		Long: `exec runs a command in a box and exits with its code; 126: it cannot be run;
127: it is not there; 125: boxrun itself failed. It has a terminal of the box's
own when stdin and stdout are terminals, and the variables of [systemd]
environment. Flags of exec stand before PROFILE.`,
		Example: `  boxrun exec web -- systemctl status nginx
  boxrun exec -u bob -w /tmp -e LANG=C web -- sh -c 'id; pwd'
  boxrun exec web -- tar -C /etc -c nginx > nginx.tar`,
		Args:              args(cobra.MinimumNArgs(2)),
		ValidArgsFunction: tab.First(a.tab().Boxes),
		RunE: func(cmd *cobra.Command, names []string) error {
			if tty && noTTY {
				return usageError{errors.New("--tty and --no-tty exclude each other")}
			}
			if err := a.asRoot(cmd, names); err != nil {
				return err
			}
			e.Argv = names[1:]
			if e.Argv[0] == "--" {
				e.Argv = e.Argv[1:]
			}
			e.TTY = tty || (!noTTY && a.interactive())
			return a.exec(cmd, names[0], e)
		},
	}
	cmd.Flags().SetInterspersed(false)
	cmd.Flags().BoolVarP(&tty, "tty", "t", false, "give the command a terminal in any case")
	cmd.Flags().BoolVarP(&noTTY, "no-tty", "T", false, "give the command no terminal")
	cmd.Flags().StringVarP(&e.User, "user", "u", "", "run as this `USER` of the box")
	cmd.Flags().StringVarP(&e.Dir, "workdir", "w", "", "run in this `DIR` of the box")
	habits.DoneAnyway(cmd, "interactive", "i")
	cmd.Flags().StringArrayVarP(&e.Env, "env", "e", nil, "set an environment variable, `KEY=VALUE`")
	tab.Flags(cmd, a.tab().Users, "user")
	return cmd
}

// isBox reports whether a box, or a profile, has the name of an argument.
func (a *app) isBox(arg string) bool {
	name := profiles.BoxName(arg)
	if _, err := a.launcher().Load(name); !errors.Is(err, fs.ErrNotExist) {
		return true
	}
	_, known := a.search.Knows(name)
	return known
}

// profileOf is habits.Known. Another path than that of a profile is of an image.
func (a *app) profileOf(name string) (file string, known bool) {
	ref, _ := a.search.Find(name) // the box may have lost its profile
	return ref.File, (filepath.Base(name) == name || filepath.Ext(name) == ".toml") && a.isBox(name)
}

// exec runs e in the box of arg. The exit code of the command becomes that of boxrun, as a codeError. An execError says
// why the command did not run.
func (a *app) exec(cmd *cobra.Command, arg string, e enter.Command) error {
	if user, box, at := strings.Cut(arg, "@"); at && !a.isBox(arg) && a.isBox(box) {
		return usageError{errors.New(habits.UserOfName(cmd.CommandPath(), user, box, e.Argv))}
	}
	name, store := profiles.BoxName(arg), a.launcher().Store
	e.Stdin, e.Stdout, e.Stderr, e.OfBox = a.in, a.out, a.err, conf.Environment(store, name)
	// The command decides what an interrupt does.
	code, err := enter.Run(context.WithoutCancel(cmd.Context()), store, name, e)
	if err != nil {
		return execError{err, code}
	}
	return ended(code)
}
