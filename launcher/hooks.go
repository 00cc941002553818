package launcher

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"boxrun/launcher/apptainer"
	"boxrun/launcher/box"
	"boxrun/launcher/conf"
	"boxrun/launcher/enter"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/launcher/process"
	"boxrun/launcher/say"
	"boxrun/profiles"
)

// runHooks runs the commands of post_up in the ready box, one after the other, unless all have run since the box
// started. The commands come from p, the profile as it is now: whoever repaired a failing command wants the repaired
// command to run. Until the last command has succeeded the hooks stay due, and the next up begins with the first.
//
// Errors: ErrHook if a command failed or could not be run; ErrNotStarted if the box ended meanwhile; the cause of ctx's
// end.
func (l *Launcher) runHooks(ctx context.Context, b *box.Box, p profiles.Profile) error {
	if !b.HooksDue {
		return nil
	}
	for i, argv := range dueHooks(b, p) {
		if err := l.runHook(ctx, b, i, argv); err != nil {
			return err
		}
	}
	b.HooksDue = false
	return l.Save(b)
}

// dueHooks returns the commands of post_up to run in the box by the profile p as it is now; nil if post_up is not due.
func dueHooks(b *box.Box, p profiles.Profile) [][]string {
	if !b.HooksDue {
		return nil
	}
	return p.Hooks.PostUp
}

// hookStep returns a command of post_up for messages: its index in the profile, and the command on a single line, cut
// after 60 characters.
func hookStep(i int, argv []string) string {
	return fmt.Sprintf("post_up[%d] %q", i, say.Cut(strings.Join(argv, " "), 60))
}

// runHook runs a single command as exec does, with empty standard input, and shows the output line by line.
func (l *Launcher) runHook(ctx context.Context, b *box.Box, i int, argv []string) error {
	step := hookStep(i, argv)
	l.Notef("%s: %s", b.Name, step)
	out := &say.LineWriter{Show: func(line string) error { l.Notef("    %s", say.Plain(line)); return nil }}
	quiet := l.tellTime(ctx, fmt.Sprintf("%s: running post_up[%d]", b.Name, i))
	code, err := enter.RefOf(l.Store, b).Run(ctx, enter.Command{Argv: argv, OfBox: conf.Environment(l.Store, b.Name), Stdout: out, Stderr: out})
	quiet()
	err = errors.Join(err, out.End())
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err == nil && code == 0:
		return nil
	case !b.Alive() || b.Ends(ctx):
		return &fault.Problem{Kind: fault.ErrNotStarted, Text: fmt.Sprintf("the box's init ended while %s ran", step)}
	case err != nil:
		return hookFailed(b, fmt.Sprintf("%s: %s: %v", b.Name, step, err))
	}
	return hookFailed(b, fmt.Sprintf("%s: %s exited with %d", b.Name, step, code))
}

// hookFailed returns an ErrHook with the given text, and advice on how to look at the box and run post_up again.
func hookFailed(b *box.Box, text string) error {
	return &fault.Problem{Kind: fault.ErrHook, Text: text,
		Hint: fmt.Sprintf("the box stays up, to be looked at with \"boxrun shell %s\"; "+
			"\"boxrun up %[1]s\" runs post_up again from the first", b.Name)}
}

// tellTime shows, every second, how long a step has been running, until quiet is called or ctx ends.
func (l *Launcher) tellTime(ctx context.Context, step string) (quiet func()) {
	ctx, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	line := say.NewLive(l.Live)
	go func() {
		defer close(done)
		for began := time.Now(); process.Sleep(ctx, time.Second) == nil; {
			line.Say(step + say.Seconds(time.Since(began)))
		}
	}()
	return func() { stop(); <-done; line.End() }
}

// typedHooks returns commands of post_up as a person types them. They call apptainer: boxrun's own exec would not know a
// box started by hand.
func (l *Launcher) typedHooks(b *box.Box, due [][]string) []string {
	if len(due) == 0 {
		return nil
	}
	argv := enter.RefOf(l.Store, b).Argv()
	enter := append(apptainer.Environment(l.Home), argv[:len(argv)-1]...)
	lines := []string{"# hooks.post_up, when the box is ready"}
	for _, command := range due {
		lines = append(lines, "env -i "+files.QuoteAll(append(enter[:len(enter):len(enter)], command...))+" < /dev/null")
	}
	return lines
}
