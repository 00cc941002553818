package apptainer

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"boxrun/launcher/fault"
	"boxrun/launcher/inotify"
	"boxrun/launcher/process"
)

// Command is a run of "apptainer instance start".
type Command struct {
	Name    string        // of the instance
	image   string        // of the box's profile, for hints
	limit   time.Duration // how long the start may take
	log     string        // path of Apptainer's .err log
	logFrom int64         // where this start's lines begin in the log, in bytes
	began   time.Time

	Stderr *bytes.Buffer
	Done   chan struct{} // closed when the command has ended
	Err    error         // valid once Done is closed
	Away   bool          // the host's systemd executed itself anew during the run; valid once Done is closed
	Taken  bool          // somebody had systemd stop the command; valid once Done is closed
	Leave  func()        // ends the wait for the command; nil for a child of boxrun
}

// NewCommand returns a command that does not run yet. image is the profile's, for hints; the lines of this start begin
// at the byte logFrom of the .err log; limit is how long the start may take.
func NewCommand(name, image, log string, logFrom int64, limit time.Duration) *Command {
	return &Command{
		Name: name, image: image, log: log, logFrom: logFrom, limit: limit, began: time.Now(),
		Stderr: new(bytes.Buffer), Done: make(chan struct{}),
	}
}

// Run starts argv as a child of boxrun in a process group of its own. A Ctrl-C then reaches boxrun, which rolls
// back, and not the command.
func (c *Command) Run(ctx context.Context, env []string, path string, argv []string) error {
	cmd := exec.CommandContext(ctx, path, argv[1:]...)
	cmd.Args[0] = argv[0]
	cmd.Env = env
	cmd.Dir = "/"
	cmd.Stderr = c.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second // Apptainer's master may hold stderr open after the command line was killed
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("running %s: %w", path, err)
	}
	go func() {
		c.Err = cmd.Wait()
		close(c.Done)
	}()
	return nil
}

// AwaitRecord waits until Apptainer's record at path names a live instance, and returns the record. AwaitRecord stops
// waiting when the command or ctx ends. The file is read every 2 ms: it appears some 200 ms before the command ends,
// and boxrun has work to do in this time.
func (c *Command) AwaitRecord(ctx context.Context, path string) (Record, error) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		r, err := ReadRecord(path)
		if err == nil {
			err = r.Verify()
		}
		if err == nil {
			return r, nil
		}
		select {
		case <-c.Done:
			return Record{}, c.Failed(fmt.Errorf("looking for Apptainer's record of it: %w", err))
		case <-ctx.Done():
			return Record{}, c.cut(context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// Left stops waiting for a command that systemd runs, and returns true: the command has nothing left to do but sleep.
// For a child of boxrun Left returns false, because the caller has to reap the child.
func (c *Command) Left() bool {
	if c.Leave == nil {
		return false
	}
	c.Leave()
	return true
}

// Wait waits for the end of the command, reaps a child of boxrun, and returns the error of a failed start. Where the
// end of ctx killed the command, the error tells so.
func (c *Command) Wait(ctx context.Context) error {
	<-c.Done
	if c.Err == nil {
		return nil
	}
	if err := context.Cause(ctx); err != nil {
		return c.cut(err)
	}
	return c.Failed(c.Err)
}

// cut returns the error of a start that boxrun stopped waiting for: ErrNotStarted after a timeout, or cause itself,
// such as a person's interrupt.
func (c *Command) cut(cause error) error {
	if !errors.Is(cause, context.DeadlineExceeded) {
		return cause // a person's interrupt
	}
	return &fault.Problem{Kind: fault.ErrNotStarted,
		Text: fmt.Sprintf("%s: the box did not start within %s", c.Name, c.limit), Hint: Hint("", c.image)}
}

// Failed returns the error of a failed start. Its text is the cause found in Apptainer's log, else the cause found on
// stderr, else err, with the last line of the box or what may be behind err.
func (c *Command) Failed(err error) error {
	cause := cmp.Or(Cause(c.logged()), Cause(c.Stderr.String()))
	hint := Hint(cause, c.image)
	switch last := cmp.Or(lastWords(c.logged()), lastWords(c.Stderr.String())); {
	case cause == "" && last != "": // which may be to blame or not: somebody may have killed the box
		cause = fmt.Sprintf("%v; the last line in its log: %s", err, last)
	case cause == "":
		cause, hint = unexplained(err, hint, process.UnifiedCgroups())
	}
	kind := fault.ErrNotStarted
	if cause == hostAway || c.wasAway() {
		kind, hint = ErrHostAway, fmt.Sprintf("again \"boxrun up %s\"", c.Name)
	} else if c.wasLate(cause) {
		kind, hint = ErrHostBusy, fmt.Sprintf("the host may be busy: \"uptime\" tells; then again \"boxrun up %s\"", c.Name)
	}
	return &fault.Problem{Kind: kind, Text: c.Name + ": the box did not start: " + cause, Hint: hint}
}

// wasAway reports whether the command has ended, and the host's systemd executed itself anew before.
func (c *Command) wasAway() bool {
	select {
	case <-c.Done:
		return c.Away
	default:
		return false
	}
}

// wasLate reports whether the command has failed for a cause that a busy host alone explains, and nobody stopped the command.
func (c *Command) wasLate(cause string) bool {
	select {
	case <-c.Done:
		return !c.Taken && (cause == scopeLate || cause == pluginKilled && time.Since(c.began) >= pluginTime)
	default:
		return false
	}
}

// Kinds of ErrNotStarted for a start that may go well when tried again.
var (
	ErrHostAway = fmt.Errorf("%w: the host's systemd was away", fault.ErrNotStarted)
	ErrHostBusy = fmt.Errorf("%w: the host was too slow", fault.ErrNotStarted)
)

// unexplained returns cause and hint of a failed start that err alone tells of. A systemd ends without a word where the kernel
// has no inotify instance left for it, as a box that came up meanwhile may have brought about, and one that does not take the
// host's cgroups.
func unexplained(err error, hint string, unified bool) (string, string) {
	room, lookErr := inotify.LookFor()
	switch {
	case lookErr == nil && room.Short:
		return fmt.Sprintf("%v; the kernel has too few inotify instances left for a box (%v)", err, room), room.Hint()
	case unified:
		return err.Error(), hint
	}
	return err.Error() + "; this host has cgroups of the first version, with which a systemd of 258 or newer in the image ends at once",
		process.UnifiedHint + "; a systemd of 257 or older boots here"
}

// logged returns what this start added to Apptainer's .err log. A log that cannot be read counts as empty, because the
// caller can use stderr instead.
func (c *Command) logged() string {
	f, err := os.Open(c.log)
	if err != nil {
		return ""
	}
	defer f.Close()
	text, _ := io.ReadAll(io.NewSectionReader(f, c.logFrom, 1<<20))
	return string(text)
}

// Hint returns the hint for a failed start, by its cause.
func Hint(cause, image string) string {
	for _, known := range []struct{ words, hint string }{
		{"no /sbin/init", "the image must bring an init: install systemd-sysv in it, or try the profile hello"},
		{"the rules of the box's cgroup", "take [resources] out, and set security.level = \"host\": this host may not hold boxes off devices"},
		{"is taken by another box", "another start takes the next free address, unless network.ip names this one; \"boxrun doctor\" tells who has it"},
		{"hairpin mode", "another program took the box's link off the bridge: \"boxrun doctor\" looks for who manages it; systemd-networkd does by a file that matches every device; add \"Name=!veth*\" to its [Match]"},
		{"plugin", "\"boxrun doctor\" looks for the plugins that connect boxes, of the package containernetworking-plugins"},
	} {
		if strings.Contains(cause, known.words) {
			return known.hint
		}
	}
	if strings.HasPrefix(image, "builtin:") {
		return "\"boxrun doctor\" looks whether this host has what boxes need"
	}
	return fmt.Sprintf("look into the image: \"apptainer shell %s\"; \"boxrun up hello\" shows whether boxes work here at all", image)
}
