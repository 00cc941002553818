package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"boxrun/launcher/box"
	"boxrun/launcher/process"
	"boxrun/launcher/stats"
	"boxrun/profiles"
)

// statsEvery is the time between two samples.
const statsEvery = time.Second

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
		ValidArgsFunction: a.completeBoxes,
		RunE: func(cmd *cobra.Command, names []string) error {
			if a.asJSON {
				format = "json"
			}
			return a.stats(cmd.Context(), mapped(names, profiles.BoxName), format, once)
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
	first, err := sample(store, names)
	if err != nil {
		return err
	}
	switch {
	case format == "json":
		return a.json(first.Boxes)
	case format == "prometheus":
		_, err := a.out.WriteString(stats.Prometheus(first.Boxes))
		return err
	case !once && term.IsTerminal(int(a.out.Fd())):
		return a.liveStats(ctx, store, names, first)
	}
	if process.Sleep(ctx, statsEvery) != nil {
		return codeError(exitInterrupted)
	}
	second, err := sample(store, names)
	if err != nil {
		return err
	}
	return a.spaced(2, stats.Table(first, second))
}

// sample reads what the named boxes use now.
func sample(s *box.Store, names []string) (stats.Sample, error) {
	boxes, err := s.All()
	if len(names) > 0 {
		boxes, err = nil, nil
		for _, name := range names {
			b, findErr := s.Find(name)
			boxes, err = append(boxes, b), errors.Join(err, findErr)
		}
	}
	if err != nil {
		return stats.Sample{}, err
	}
	return stats.Sample{At: time.Now(), Boxes: mapped(boxes, stats.Read)}, nil
}

// liveStats writes the table over and over until ctx ends. The last table stays.
func (a *app) liveStats(ctx context.Context, s *box.Store, names []string, last stats.Sample) error {
	up := ""
	for now := last; ; {
		width, height, _ := term.GetSize(int(a.out.Fd())) // 0 where it fails
		lines := stats.Screen(stats.Table(last, now), width, height)
		if _, err := a.out.WriteString(up + strings.Join(lines, "\n") + "\n\x1b[J"); err != nil {
			return err
		}
		up = fmt.Sprintf("\r\x1b[%dA", len(lines))
		if process.Sleep(ctx, statsEvery) != nil {
			return codeError(exitInterrupted)
		}
		last = now
		var err error
		if now, err = sample(s, names); err != nil {
			return err
		}
	}
}
