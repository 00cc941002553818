package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// terminal is what boxrun prints with.
//
//	stdout   results and nothing else: tables, JSON, names, paths
//	stderr   "boxrun: ..." for notes, "boxrun: error: ..." and then "boxrun: hint: ..." for what went wrong
//	live     on a terminal a line on stderr that is written over; elsewhere a plain line when its subject changes,
//	         once a step has taken a second
//
// Messages start without a capital and end without a full stop.
type terminal struct {
	in, out, err  *os.File
	asJSON, quiet bool // --json and --quiet
	mu            sync.Mutex
	isTTY         bool
	subject       string    // of the latest live line
	began         time.Time // when the step of the live line began; zero between steps
}

func newTerminal(in, out, err *os.File) *terminal {
	return &terminal{in: in, out: out, err: err, isTTY: term.IsTerminal(int(err.Fd()))}
}

// interactive reports whether a person can answer: stdin and stdout are terminals.
func (t *terminal) interactive() bool {
	return term.IsTerminal(int(t.in.Fd())) && term.IsTerminal(int(t.out.Fd()))
}

// note prints a line for the person at the terminal.
func (t *terminal) note(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clearLive()
	fmt.Fprintln(t.err, "boxrun: "+text)
}

func (t *terminal) notef(format string, args ...any) { t.note(fmt.Sprintf(format, args...)) }

// live shows what a long step is doing; "" ends the step. The subject of a line is the part before " (". Away from a
// terminal, a line is printed only when its subject changes: the seconds in brackets are not worth a line each.
func (t *terminal) live(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if text == "" {
		t.clearLive()
		t.began = time.Time{}
		return
	}
	if t.began.IsZero() {
		t.began = time.Now()
	}
	subject, _, _ := strings.Cut(text, " (")
	switch {
	case t.isTTY:
		fmt.Fprint(t.err, "\r\x1b[K"+text)
	case subject == t.subject || time.Since(t.began) < time.Second:
		return
	default:
		fmt.Fprintln(t.err, "boxrun: "+subject)
	}
	t.subject = subject
}

func (t *terminal) clearLive() {
	if t.isTTY && t.subject != "" {
		fmt.Fprint(t.err, "\r\x1b[K")
	}
	t.subject = ""
}

// lines prints a result of lines, nothing for none.
func (t *terminal) lines(lines []string) error {
	if len(lines) == 0 {
		return nil
	}
	_, err := t.out.WriteString(strings.Join(lines, "\n") + "\n")
	return err
}

// commands prints the commands of a dry run, and returns err instead if there is one.
func (t *terminal) commands(commands []string, err error) error {
	if err != nil {
		return err
	}
	return t.lines(commands)
}

// json prints a result as JSON, for programs. No browser reads it: "80->80" stays readable.
func (t *terminal) json(v any) error {
	enc := json.NewEncoder(t.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// withJSON returns cmd with the flag --json, and --format json for those who are used to that.
func (t *terminal) withJSON(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolVar(&t.asJSON, "json", false, "print JSON")
	cmd.Flags().Func("format", "json or table", func(format string) error {
		if format != "json" && format != "table" {
			return errors.New("must be json or table")
		}
		t.asJSON = format == "json"
		return nil
	})
	_ = cmd.Flags().MarkHidden("format") // cannot fail: the flag is there
	return cmd
}

// result prints v as JSON with --json, the first cells of the rows below the header with --quiet, and else the rows as
// spaced does.
func (t *terminal) result(v any, gap int, rows [][]string) error {
	switch {
	case t.asJSON:
		return t.json(v)
	case t.quiet:
		return t.lines(mapped(rows[1:], func(row []string) string { return row[0] }))
	}
	return t.spaced(gap, rows)
}

// mapped returns what of makes of each element of list.
func mapped[T, U any](list []T, of func(T) U) []U {
	made := make([]U, len(list))
	for i, element := range list {
		made[i] = of(element)
	}
	return made
}

// spaced prints rows with their cells aligned and at least gap blanks between columns.
func (t *terminal) spaced(gap int, rows [][]string) error {
	w := tabwriter.NewWriter(t.out, 0, 0, gap, ' ', 0)
	for _, row := range rows {
		if _, err := fmt.Fprintln(w, strings.Join(row, "\t")); err != nil {
			return err
		}
	}
	return w.Flush()
}
