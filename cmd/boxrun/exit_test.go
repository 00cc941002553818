package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"boxrun/launcher/fault"
	"boxrun/profiles"
)

// Each error of several is followed by what to do about it.
func TestReport(t *testing.T) {
	problem := func(text, hint string) error {
		return &fault.Problem{Kind: fault.ErrRefused, Text: text, Hint: hint}
	}
	for _, c := range []struct {
		name string
		err  error
		want string
	}{
		{"each its own", errors.Join(problem("a", "do a"), errors.Join(problem("b", "do b"), errors.New("c"))),
			"error: a|hint: do a|error: b|hint: do b|error: c|"},
		{"the same twice", errors.Join(problem("a", "do it"), problem("b", "do it")), "error: a|error: b|hint: do it|"},
		{"words around them", fmt.Errorf("starting: %w", errors.Join(problem("a", "do a"), problem("b", "do b"))),
			"error: starting: a|error: b|hint: do a|"},
		{"two in a sentence", fmt.Errorf("%w, and %w", problem("a", "do a"), problem("b", "do b")), "error: a, and b|hint: do a|"},
		{"a profile's", profiles.Errors{{File: "f", Message: "a"}, {File: "f", Message: "b"}},
			"error: f: a|error: f: b|hint: \"boxrun profile init NAME\" writes a profile with every key explained|"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := reported(t, c.err); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// Whatever an interrupt makes of a verb, the code is the same; that of a command in a box is its own.
func TestExitCodeOfAnInterrupt(t *testing.T) {
	over, cancel := context.WithCancel(t.Context())
	cancel()
	notStarted := &fault.Problem{Kind: fault.ErrNotStarted, Text: "signal: killed"}
	for _, c := range []struct {
		verb string
		ctx  context.Context
		err  error
		want int
	}{
		{"up", over, fmt.Errorf("waiting: %w", context.Cause(over)), exitInterrupted},
		{"up", over, notStarted, exitInterrupted},
		{"up", t.Context(), notStarted, exitNotStarted},
		{"down", over, errors.Join(fault.ErrKilled, context.Canceled), exitInterrupted},
		{"doctor", over, nil, exitDone},
		{"exec", over, execError{context.Canceled, 125}, 125},
	} {
		cmd := &cobra.Command{Use: c.verb}
		cmd.SetContext(c.ctx)
		null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := newTerminal(null, null, null).report(cmd, c.err); got != c.want {
			t.Errorf("%s, %v: got exit code %d, want %d", c.verb, c.err, got, c.want)
		}
	}
}

// reported gives what is printed of an error, with "|" for the end of a line.
func reported(t *testing.T, err error) string {
	t.Helper()
	file, openErr := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if openErr != nil {
		t.Fatal(openErr)
	}
	defer file.Close()
	newTerminal(file, file, file).report(&cobra.Command{Use: "up"}, err)
	text, readErr := os.ReadFile(file.Name())
	if readErr != nil {
		t.Fatal(readErr)
	}
	return strings.NewReplacer("boxrun: ", "", "\n", "|").Replace(string(text))
}
