package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"boxrun/cmd/boxrun/first"
	"boxrun/cmd/boxrun/habits"
	"boxrun/launcher/enter"
	"boxrun/launcher/fault"
	"boxrun/profiles"
)

// The exit codes, as the README lists them.
const (
	exitDone       = 0
	exitFailed     = 1
	exitUsage      = 2 // or an invalid profile
	exitNotFound   = 3 // no such box or profile
	exitNotStarted = 4
	exitNotReady   = 5 // the box stays up
	exitKilled     = 6 // the box is down, but had to be killed

	exitInterrupted = 130 // by any signal; a shell's code for a program that Ctrl-C ended
)

// usageError is a mistake in the command line.
type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

// codeError ends boxrun with an exit code and no message. The code is that of a command in the box, or of a failure
// already reported.
type codeError int

func (c codeError) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// ended returns the codeError of an exit code; nil for exitDone.
func ended(code int) error {
	if code == exitDone {
		return nil
	}
	return codeError(code)
}

// execError is why a command in a box did not run, with the exit code for this failure.
type execError struct {
	error
	code int
}

func (e execError) Unwrap() error { return e.error }

// report prints the error that ended cmd and returns the exit code. Every error is printed once, and only by report. A
// codeError is not printed.
func (t *terminal) report(cmd *cobra.Command, err error) int {
	t.live("")
	if err == nil {
		return exitDone
	}
	if code, ok := errors.AsType[codeError](err); ok {
		return int(code)
	}
	t.failAll(cmd, parts(err))
	return exitCode(cmd, err)
}

// failAll prints errors, each line as an error of its own, and after each error its hint. A hint shared by several
// errors in a row follows the last of them.
func (t *terminal) failAll(cmd *cobra.Command, errs []error) {
	for i, err := range errs {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			t.note("error: " + line)
		}
		advice := hint(cmd, err)
		if advice != "" && (i+1 == len(errs) || hint(cmd, errs[i+1]) != advice) {
			t.note("hint: " + advice)
		}
	}
}

// parts splits a joined error into its parts. Wrapped errors stay whole, to keep the words around them. The errors of a
// profile stay together, as they share a hint.
func parts(err error) []error {
	several, ok := err.(interface{ Unwrap() []error }) //nolint:errorlint // of err alone, not of what it wraps
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range several.Unwrap() {
		all = append(all, parts(e)...)
	}
	if errors.Join(several.Unwrap()...).Error() != err.Error() || errors.As(all[0], new(profiles.Error)) {
		return []error{err}
	}
	return all
}

func exitCode(cmd *cobra.Command, err error) int {
	var exec execError
	switch {
	case errors.As(err, &exec):
		return exec.code
	case cmd.Name() == "exec": // all other codes of exec belong to the command
		return enter.CodeBoxrun
	case wasInterrupted(cmd.Context(), err):
		return exitInterrupted
	case isA[usageError](err), isA[profiles.Errors](err), isA[*profiles.TrustError](err), errors.Is(err, fault.ErrInvalid):
		return exitUsage
	case errors.Is(err, fault.ErrNotFound), errors.Is(err, profiles.ErrNotFound):
		return exitNotFound
	case errors.Is(err, fault.ErrNotStarted):
		return exitNotStarted
	case errors.Is(err, fault.ErrNotReady):
		return exitNotReady
	case errors.Is(err, fault.ErrKilled):
		return exitKilled
	}
	return exitFailed
}

func isA[T error](err error) bool { _, ok := errors.AsType[T](err); return ok }

// wasInterrupted reports whether a signal ended the verb of ctx, which ended with err. Where a signal ended a program that
// the verb ran, err does not say so.
func wasInterrupted(ctx context.Context, err error) bool {
	return errors.Is(err, context.Canceled) || ctx != nil && ctx.Err() != nil
}

// hint returns advice on what to do about err, "" for none.
func hint(cmd *cobra.Command, err error) string {
	var invalid profiles.Errors
	var untrusted *profiles.TrustError
	var image *profiles.ImageError
	switch {
	case errors.As(err, &image):
		return first.WithImage(image.Image)
	case errors.As(err, &untrusted):
		return untrusted.Hint
	case isA[usageError](err):
		return fmt.Sprintf("%q shows how it is used", cmd.CommandPath()+" --help")
	case errors.As(err, &invalid):
		return invalidHint(invalid[0])
	case errors.Is(err, context.Canceled):
		return interruptHint(cmd)
	case errors.Is(err, profiles.ErrNotFound):
		return "\"boxrun profile list\" lists the profiles, and \"boxrun profile init NAME IMAGE\" writes one"
	}
	return fault.HintOf(err)
}

// invalidHint returns advice for an invalid profile by its first error: to start an instance, how to fill an empty file
// that hides a built-in profile, else how to get a profile with every key explained.
func invalidHint(first profiles.Error) string {
	file := first.File
	if strings.HasPrefix(first.Message, "has %i") {
		return "start an instance, as in \"boxrun up NAME@1\""
	}
	if hidden := profiles.Hidden(file); hidden != "" {
		return fmt.Sprintf("%s is empty, and hides %s: \"boxrun profile show %s > %s\" fills it", file, hidden, hidden, file)
	}
	return "\"boxrun profile init NAME\" writes a profile with every key explained"
}

// interruptHint says what an interrupted verb leaves behind, "" for verbs that leave nothing.
func interruptHint(cmd *cobra.Command) string {
	verb := cmd.Name()
	if verb == "up" && (cmd.Flags().Changed("replace") || cmd.Flags().Changed("build")) {
		verb = "restart"
	}
	return map[string]string{
		"up":      "it was interrupted; a start it had begun is undone",
		"build":   "it was interrupted; nothing is built, and an image that was there is as it was",
		"down":    "it was interrupted; a box that was stopping goes on with that, and \"boxrun down\" again clears up after it",
		"restart": "it was interrupted; a box that was to start anew may be down or stopping, and \"boxrun up\" brings it up",
	}[verb]
}

// args turns errors of cobra's argument checks into usage errors. For a command with verbs below, the message is
// cobra's with a guess at the verb. For any other verb the message shows the usage line.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch err := check(cmd, args); {
		case err == nil:
			return nil
		case cmd.HasAvailableSubCommands():
			return usageError{fmt.Errorf("%w%s", err, habits.MeantVerb(cmd, args[0]))}
		default:
			return usageError{fmt.Errorf("usage: %s %s%s", cmd.Parent().CommandPath(), cmd.Use, here(cmd, args))}
		}
	}
}

// here names the first profile of the current directory to whoever names none to a verb that takes profiles; "" for others.
func here(cmd *cobra.Command, args []string) string {
	found, _ := filepath.Glob("*.toml") // the pattern is well-formed
	words := strings.Fields(cmd.Use)
	if len(found) == 0 || len(args) > 0 || len(words) < 2 || strings.TrimSuffix(words[1], "...") != "PROFILE" {
		return ""
	}
	return fmt.Sprintf(", as in \"%s %s\" for %[3]s, which is here", cmd.CommandPath(), strings.TrimSuffix(found[0], ".toml"), found[0])
}
