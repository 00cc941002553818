package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"boxrun/cmd/boxrun/given"
	"boxrun/cmd/boxrun/tab"
	"boxrun/launcher/trace"
	"boxrun/profiles"
)

func traceCommand(a *app) *cobra.Command {
	var q trace.Query
	duration := given.Timeout()
	cmd := a.withJSON(&cobra.Command{
		Use:   "trace PROFILE [PORT]",
		Short: "Tell live why packets of a box die, and which rules they meet",
		Long: `trace tells, live and in words, why the kernel drops packets to or from a box,
and the command that mends it: a rule, a port nobody listens on, a wrong
checksum, a route; and the rules that the first packets of each connection met.
It goes on until Ctrl-C, or for --time, or with --probe for one connection that
it makes itself. With PORT it is about that published port, or that port in the
box. Packets that are alike are told once, and counted. Nothing of it is left on
the host, however it ends. The kernel tells reasons since Linux 5.17 (EL 9), and
rules of iptables-nft and nftables since 5.12.`,
		Example: `  boxrun trace --probe web 80
  boxrun trace --time 5s web`,
		Args:              args(cobra.RangeArgs(1, 2)),
		ValidArgsFunction: tab.First(a.tab().Boxes),
		PreRunE:           a.asRoot,
		RunE: func(cmd *cobra.Command, words []string) error {
			if duration.Value != nil {
				q.For = *duration.Value
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
	cmd.Flags().BoolVar(&q.Probe, "probe", false, "connect once to PORT as a client outside the host, and end after that")
	return cmd
}

// trace prints what happens to packets of a box, each kind of event once and at once. With --json the events are
// printed at the end.
func (a *app) trace(ctx context.Context, name string, q trace.Query) error {
	l := a.launcher()
	b, err := l.Find(name)
	if err != nil {
		return err
	}
	events, err := trace.Run(ctx, l.Store, b, q, a.eventPrinter())
	if err != nil {
		return err
	}
	if a.asJSON {
		err = a.json(events)
	} else {
		a.died(name, events)
	}
	if ctx.Err() != nil && err == nil {
		return codeError(exitInterrupted)
	}
	return err
}

// died notes how many packets of a box died, and the kinds with more than a single packet.
func (a *app) died(name string, events []trace.Event) {
	died := 0
	for _, e := range events {
		if e.Kind == trace.Drop {
			died += e.Times
		}
		if e.Kind == trace.Drop && e.Times > 1 {
			a.notef("%d times: %s: %s", e.Times, e.Packet, e.Text)
		}
	}
	a.notef("%s: packets that died: %d", name, died)
}

// eventPrinter returns what prints an event: the packet, unless the event before was about the same packet; below it
// the rule, or why the packet died and what to do. With --json nothing is printed.
func (a *app) eventPrinter() func(trace.Event) error {
	packet := ""
	return func(e trace.Event) error {
		if a.asJSON {
			return nil
		}
		var lines []string
		if e.Packet != packet {
			lines = append(lines, e.Time.Format("15:04:05.000")+"  "+e.Packet)
		}
		packet = e.Packet
		label := map[trace.Kind]string{trace.Drop: "died", trace.Rule: "rule", trace.Probed: "probe"}[e.Kind]
		lines = append(lines, "      "+label+": "+e.Text)
		if e.Fix != "" {
			lines = append(lines, "      fix: "+e.Fix)
		}
		return a.lines(lines)
	}
}
