package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"boxrun/launcher/trace"
	"boxrun/profiles"
)

func (a *app) traceCommand() *cobra.Command {
	var q trace.Query
	duration := timeoutFlag()
	cmd := a.withJSON(&cobra.Command{
		Use:   "trace PROFILE [PORT]",
		Short: "Tell live why packets to or from a box die",
		Long: `trace tells, live and in words, why the kernel drops packets to or from a box,
and the command that mends it: a rule, a port nobody listens on, a wrong
checksum, a route. It goes on until Ctrl-C, or for --time. With PORT it is about
that published port, or that port in the box. Nothing is changed on the host.`,
		Example: `  boxrun trace --time 10s web
  boxrun trace web 8080`,
		Args:              args(cobra.RangeArgs(1, 2)),
		ValidArgsFunction: first(a.completeBoxes),
		PreRunE:           a.asRoot,
		RunE: func(cmd *cobra.Command, words []string) error {
			if duration.given != nil {
				q.For = *duration.given
			}
			if len(words) > 1 {
				port, err := strconv.ParseUint(words[1], 10, 16)
				if err != nil || port == 0 {
					return usageError{fmt.Errorf("PORT must be a number from 1 to 65535, got %q", words[1])}
				}
				q.Port = uint16(port)
			}
			return a.trace(cmd.Context(), profiles.BoxName(words[0]), q)
		},
	})
	cmd.Flags().Var(duration, "time", "end after this time, such as 10s (default: with Ctrl-C)")
	return cmd
}

// trace prints what happens to packets of a box, each kind of event once and at once. With --json the events are printed
// at the end.
func (a *app) trace(ctx context.Context, name string, q trace.Query) error {
	l := a.launcher()
	b, err := l.Find(name)
	if err != nil {
		return err
	}
	events, err := trace.Run(ctx, l.Store, b, q, a.printEvent)
	if err != nil {
		return err
	}
	if a.asJSON {
		return a.json(events)
	}
	for _, e := range events {
		if e.Times > 1 {
			a.notef("%d times: %s: %s", e.Times, e.Packet, e.Text)
		}
	}
	if len(events) == 0 {
		a.notef("%s: no packet died", name)
	}
	return nil
}

// printEvent prints an event, and below it what to do. With --json it prints nothing.
func (a *app) printEvent(e trace.Event) error {
	if a.asJSON {
		return nil
	}
	lines := []string{fmt.Sprintf("%s  %s: %s", e.Time.Format("15:04:05.000"), e.Packet, e.Text)}
	if e.Fix != "" {
		lines = append(lines, "      fix: "+e.Fix)
	}
	return a.lines(lines)
}
