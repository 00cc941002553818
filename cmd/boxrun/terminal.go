package main

import (
	"bytes"
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

	"boxrun/launcher/say"
)

// terminal is what boxrun prints with.
//
//	stdout   results and nothing else: tables, JSON, names, paths
//	stderr   "boxrun: ..." for notes, "boxrun: error: ..." and then "boxrun: hint: ..." for what went wrong
//	live     on a terminal a line on stderr that is written over; elsewhere a plain line when its subject changes,
//	         once a step has taken a second
//
// Messages start without a capital and end without a full stop. What is printed passes a filter here, because words of
// boxes, users and programs are in it: nothing is left that the reader's terminal could take for a command.
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
	fmt.Fprintln(t.err, "boxrun: "+shown(text))
}

// longestNote limits a line on stderr, in characters.
const longestNote = 4000

// shown returns a line fit to print.
func shown(line string) string { return say.Plain(say.Cut(line, longestNote)) }

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
	text = shown(text)
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

// lines prints a result of lines, nothing for none. A line that has a line end in it stays one line.
func (t *terminal) lines(lines []string) error {
	if len(lines) == 0 {
		return nil
	}
	return t.write(mapped(lines, say.Plain))
}

func (t *terminal) write(lines []string) error {
	_, err := t.out.WriteString(strings.Join(lines, "\n") + "\n")
	return err
}

// commands prints the commands of a dry run, and returns err instead if there is one. Away from a terminal the commands
// come as they are, for a shell.
func (t *terminal) commands(commands []string, err error) error {
	switch {
	case err != nil || len(commands) == 0:
		return err
	case term.IsTerminal(int(t.out.Fd())):
		commands = strings.Split(strings.Join(commands, "\n"), "\n")
		return t.lines(commands)
	}
	return t.write(commands)
}

// json prints a result as JSON, for programs. Package json escapes ASCII control characters; others are escaped here.
func (t *terminal) json(v any) error {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := t.out.WriteString(say.EscapedJSON(text.String()))
	return err
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
		if _, err := fmt.Fprintln(w, strings.Join(mapped(row, say.Printable), "\t")); err != nil {
			return err
		}
	}
	return w.Flush()
}
