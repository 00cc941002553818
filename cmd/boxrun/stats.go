package main

import (
	"context"
	"errors"
	"slices"

	"github.com/spf13/cobra"

	"boxrun/launcher/list"
	"boxrun/launcher/stats"
	"boxrun/profiles"
)

func statsCommand(a *app) *cobra.Command {
	var once bool
	format := "table"
	cmd := &cobra.Command{
		Use:   "stats [PROFILE...]",
		Short: "Show what boxes use: processor, memory, network, disk",
		Long: `stats shows what each whole box uses: its services, and commands run in it from
outside. On a terminal it goes on until Ctrl-C.

CPU% is of one processor, over a second. MEM has cached files. NET is counted at
the host's end of the box's link, READ and WRITTEN are of disks. "-" is what the
host does not count. Prometheus' format is for node_exporter's textfile
collector: docs/logs.md has a timer.`,
		Example: `  boxrun stats --no-stream
  boxrun stats --json web
  boxrun stats --format prometheus`,
		ValidArgsFunction: a.tab().Boxes,
		RunE: func(cmd *cobra.Command, names []string) error {
			if a.asJSON {
				format = "json"
			}
			return a.stats(cmd.Context(), list.Map(names, profiles.BoxName), format, once)
		},
	}
	cmd.Flags().BoolVar(&a.asJSON, "json", false, "print JSON, once")
	cmd.Flags().BoolVar(&once, "no-stream", false, "print once, after a second")
	cmd.Flags().Func("format", "table, json or prometheus", func(text string) error {
		if !slices.Contains([]string{"table", "json", "prometheus"}, text) {
			return errors.New("must be table, json or prometheus")
		}
		format = text
		return nil
	})
	return cmd
}

// stats prints what the named boxes use; no names are all boxes.
func (a *app) stats(ctx context.Context, names []string, format string, once bool) error {
	store := a.launcher().Store
	first, err := stats.Take(store, names)
	switch {
	case err != nil:
		return err
	case format == "json":
		return a.json(first.Boxes)
	case format == "prometheus":
		return a.lines(stats.Prometheus(first.Boxes))
	case !once && a.isTerminal():
		err = stats.Live(ctx, store, names, a.out)
	default:
		var rows [][]string
		if rows, err = stats.Once(ctx, store, names, first); err == nil {
			return a.table(nil, 2, rows)
		}
	}
	if ctx.Err() != nil {
		return codeError(exitInterrupted)
	}
	return err
}
