package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"boxrun/cmd/boxrun/given"
	"boxrun/cmd/boxrun/habits"
	"boxrun/cmd/boxrun/tab"
	"boxrun/launcher/journal"
	"boxrun/launcher/list"
	"boxrun/profiles"
)

func logsCommand(a *app) *cobra.Command {
	var o journal.Query
	var noPrefix bool
	lines := given.Lines()
	cmd := &cobra.Command{
		Use:   "logs PROFILE...",
		Short: "Print the journals of boxes",
		Long: `logs prints the journal of a box. Of a box that has crashed or is down, logs
prints the journal that the box left: in its overlay, in a bind, or with
[systemd] journal = "host" in the host's /var/log/journal. Of one that has no
journal it prints what Apptainer kept of its init's output and of its start.

The journals of several boxes are printed as one, in the order of time, with
the box's name before each line. With -f it goes on until Ctrl-C, or until the
last of the boxes has ended. Lines are made harmless for the terminal.`,
		Example: `  boxrun logs -n 20 web
  boxrun logs -u nginx --since -1h web
  boxrun logs -f web db`,
		Args:              args(cobra.MinimumNArgs(1)),
		ValidArgsFunction: a.tab().Logs,
		PreRunE:           a.asRoot,
		RunE: func(cmd *cobra.Command, names []string) error {
			if len(names) == 2 && a.isBox(names[0]) && !a.isBox(names[1]) {
				return habits.UnitAsBox(cmd, names[1], names[0])
			}
			o.Lines, o.Since, o.Until = lines.Value, habits.Ago(o.Since), habits.Ago(o.Until)
			return a.logs(cmd.Context(), names, o, noPrefix)
		},
	}
	cmd.Flags().BoolVarP(&o.Follow, "follow", "f", false, "go on as lines come")
	cmd.Flags().VarP(lines, "lines", "n", "only the last `N` lines of each box; with 0 and -f, new ones alone")
	cmd.Flags().StringVarP(&o.Unit, "unit", "u", "", "only lines of this `UNIT`")
	cmd.Flags().StringVar(&o.Since, "since", "", "only lines since this `TIME`, as journalctl takes it")
	cmd.Flags().StringVar(&o.Until, "until", "", "only lines until this `TIME`")
	cmd.Flags().StringVarP(&o.Priority, "priority", "p", "", "only lines of this `PRIORITY`, such as err, and above")
	cmd.Flags().StringVarP(&o.Grep, "grep", "g", "", "only lines whose message matches `PATTERN`")
	cmd.Flags().StringVarP(&o.Output, "output", "o", "", "lines in this `FORMAT` of journalctl, such as json or cat; of one box only")
	cmd.Flags().Var(lines, "tail", "as --lines")
	_ = cmd.Flags().MarkHidden("tail") // cannot fail: the flag is there
	cmd.Flags().BoolVar(&noPrefix, "no-prefix", false, "no names of boxes before the lines of several")
	habits.DoneAnyway(cmd, "no-pager", "")
	tab.Flags(cmd, a.tab().Units, "unit")
	tab.Flags(cmd, tab.Words("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"), "priority")
	tab.Flags(cmd, tab.Words("short", "short-iso", "short-precise", "verbose", "export", "json", "json-pretty", "cat"), "output")
	return cmd
}

// logs prints the logs of the boxes of args. Problems go to stderr, the rest to stdout. With several boxes,
// lines begin with the name of the box, unless noPrefix is set.
func (a *app) logs(ctx context.Context, args []string, o journal.Query, noPrefix bool) error {
	names := list.Map(args, profiles.BoxName)
	if o.Output != "" && len(names) > 1 {
		return usageError{errors.New("--output is for one box: lines of several are put in order by their times")}
	}
	o.Colours = a.colours()
	prefixes := map[string]string{}
	if len(names) > 1 && !noPrefix {
		prefixes = logPrefixes(names, o.Colours)
	}
	code, err := journal.Show(ctx, a.launcher().Store, args, o, func(line journal.Line) error {
		out := a.out
		if line.Problem {
			out = a.err
		}
		_, err := out.WriteString(prefixes[line.Box] + line.Text + "\n")
		return err
	})
	if errors.Is(err, syscall.EPIPE) { // the reader went away, as "| head" does
		return codeError(128 + int(syscall.SIGPIPE))
	}
	switch {
	case err != nil:
		return err
	case ctx.Err() != nil: // of one box the code is that of its journalctl
		return codeError(exitInterrupted)
	}
	return ended(code)
}

// colours reports whether results may have colours: https://no-color.org.
func (t *terminal) colours() bool {
	return t.isTerminal() && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// logPrefixes returns the prefix of the lines of each box: the name of the box, padded to a common width. When
// coloured, the boxes have different colours as long as there are enough.
func logPrefixes(names []string, coloured bool) map[string]string {
	width := slices.Max(list.Map(names, func(name string) int { return len(name) }))
	colours := []int{36, 33, 32, 35, 34, 96, 93, 92, 95, 94} // cyan, yellow, green, magenta, blue, and the bright ones
	prefixes := map[string]string{}
	for _, name := range names {
		if prefixes[name] != "" {
			continue
		}
		prefix := fmt.Sprintf("%-*s | ", width, name)
		if coloured {
			prefix = fmt.Sprintf("\x1b[%dm%s\x1b[0m", colours[len(prefixes)%len(colours)], prefix)
		}
		prefixes[name] = prefix
	}
	return prefixes
}
