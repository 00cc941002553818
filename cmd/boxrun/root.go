package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"boxrun/cmd/boxrun/habits"
	"boxrun/cmd/boxrun/tab"
	"boxrun/launcher"
	"boxrun/launcher/box"
	"boxrun/launcher/tasks"
	"boxrun/launcher/units"
	"boxrun/profiles"
)

// app holds what all verbs share: the terminal, the directory of the records, and the search path of profiles.
type app struct {
	*terminal
	exe      string // path of boxrun itself
	stateDir string // --state-dir, absolute: Apptainer is run somewhere else
	caller   box.Caller
	search   profiles.Search
	turn     *tasks.Turn // of this task, beside other boxes
}

// A verb is what a command does with its arguments, as cobra runs it.
type verb = func(cmd *cobra.Command, args []string) error

// profilesFlag is the hidden flag that tells boxrun under sudo where the user keeps profiles. sudo drops the
// environment.
const profilesFlag = "profiles"

func newRoot(t *terminal, exe string) *cobra.Command {
	a := &app{terminal: t, exe: exe, stateDir: box.StateDir, caller: units.ReadCaller()}
	a.search = a.searchPath()
	root := &cobra.Command{
		Use:   "boxrun",
		Short: "Apptainer containers that boot systemd, networked, with one word",
		Long: `boxrun brings up a box that a profile describes: an Apptainer instance that
boots systemd, with its network and its published ports in place; and takes it
away without a trace.`,
		Example: `  boxrun up hello
  curl http://127.0.0.1:8080/
  boxrun down hello`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.PersistentFlags().Func("state-dir", "where boxrun keeps what it knows of boxes", func(dir string) (err error) {
		a.stateDir, err = filepath.Abs(dir)
		return err
	})
	_ = root.PersistentFlags().MarkHidden("state-dir")
	root.PersistentFlags().Func(profilesFlag, "directories to look for profiles in", func(list string) error {
		a.search = a.search.With(filepath.SplitList(list))
		return nil
	})
	_ = root.PersistentFlags().MarkHidden(profilesFlag)
	root.Version = version
	root.SetVersionTemplate("boxrun {{.Version}}\n") // as the verb says it
	root.DisableAutoGenTag = true                    // the manual pages carry boxrun's version
	root.SetUsageTemplate(usageTemplate(root.UsageTemplate()))
	root.SetOut(t.out)
	root.SetErr(t.err)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usageError{flagError(cmd, err)} })
	group(root, upCommand(a), downCommand(a), restartCommand(a), shellCommand(a), execCommand(a), cpCommand(a),
		buildCommand(a), diffCommand(a), psCommand(a), statusCommand(a), statsCommand(a), logsCommand(a), profileCommand(a), hostCommand(a),
		keptCommand(a), doctorCommand(a), traceCommand(a), versionCommand(a),
		enableCommand(a), disableCommand(a), repairCommand(a), watchCommand(a), healthCommand(a))
	root.AddCommand(append(habits.Commands(a.profileOf), manCommands()...)...)
	strictCompletion(root)
	tab.Finish(root, len(os.Args) > 1 && strings.HasPrefix(os.Args[1], cobra.ShellCompRequestCmd))
	return root
}

// usageTemplate changes cobra's template of help texts: flags fit 80 columns, as all other help does, habits widen no
// column, and there is no list of aliases, most of which are habits from other tools.
func usageTemplate(cobras string) string {
	return strings.NewReplacer("FlagUsages", "FlagUsagesWrapped 80", ".NamePadding", "11", "{{if gt (len .Aliases) 0}}", "{{if false}}").Replace(cobras)
}

// group adds verbs to cmd. By itself cmd prints its help.
func group(cmd *cobra.Command, verbs ...*cobra.Command) *cobra.Command {
	cmd.Args = args(cobra.NoArgs)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.AddCommand(verbs...)
	return cmd
}

// flagError shortens the error of a boolean flag with a wrong value to "must be true or false": the message would name
// the Go function that failed. The error of an unknown flag gets a guess at the flag. Other errors are returned
// unchanged.
func flagError(cmd *cobra.Command, err error) error {
	if parsed, ok := errors.AsType[*strconv.NumError](err); ok {
		return errors.New(strings.Replace(err.Error(), parsed.Error(), "must be true or false", 1))
	}
	if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok {
		return fmt.Errorf("%w%s", err, habits.MeantFlag(cmd, unknown))
	}
	return err
}

// strictCompletion makes cobra's own verb "completion" refuse an unknown shell. By default cobra prints the help of the
// verb and succeeds. PowerShell goes: boxrun needs Linux and root.
func strictCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	completion, _, _ := root.Find([]string{"completion"}) // cannot fail: the verb is there
	for _, shell := range completion.Commands() {
		if shell.Name() == "powershell" {
			completion.RemoveCommand(shell)
		}
	}
	group(completion)
}

// searchPath returns the search path of profiles. When systemd starts a box at boot, searchPath returns the directories
// of the host alone, without those of a person. Otherwise names of boxes are looked up too.
func (a *app) searchPath() profiles.Search {
	if a.caller.ForEnabled() {
		return profiles.OfHost()
	}
	search := profiles.FromEnvironment()
	search.Boxes = func() []string {
		names, _ := a.boxNames() // names that could be read are returned beside an error
		return names
	}
	search.Box = func(name string) (profiles.Ref, bool) { return a.launcher().StartedFrom(name) }
	return search
}

// tab returns what completes words for a.
func (a *app) tab() tab.Of { return func() *box.Store { return a.launcher().Store } }

// launcher returns a launcher with the state directory, notes and search path of a.
func (a *app) launcher() *launcher.Launcher {
	return &launcher.Launcher{
		Store: &box.Store{Dir: a.stateDir, Home: "/root", Exe: a.exe, Note: a.note, Caller: a.caller, Search: a.search}, Live: a.live,
	}
}
