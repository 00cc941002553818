package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"boxrun/cmd/boxrun/screen"
	"boxrun/launcher/list"
	"boxrun/launcher/say"
)

// terminal is what boxrun prints with.
//
//	stdout   results and nothing else: tables, JSON, names, paths
//	stderr   "boxrun: ..." for notes, "boxrun: error: ..." and then "boxrun: hint: ..." for what went wrong
//	live     on a terminal a line on stderr for each task, written over; elsewhere a plain line when its subject
//	         changes, once a step has taken a second
//
// Messages start without a capital and end without a full stop. What is printed passes a filter here, because words of
// boxes, users and programs are in it: nothing is left that the reader's terminal could take for a command.
type terminal struct {
	in, out, err  *os.File
	asJSON, quiet bool // --json and --quiet
	screen        *screen.Screen
	line          *screen.Line // of this task
	task          string       // name of the box of this task, for live lines; "" outside of tasks
	beside        bool         // other tasks print as well
}

func newTerminal(in, out, err *os.File) *terminal {
	t := &terminal{in: in, out: out, err: err, screen: screen.New(out, err, sizeOf(err))}
	t.line = t.screen.NewLine()
	return t
}

// sizeOf returns a function for the size of a terminal; nil for any other file.
func sizeOf(file *os.File) func() (columns, rows int) {
	if file == nil || !term.IsTerminal(int(file.Fd())) {
		return nil
	}
	return func() (int, int) {
		columns, rows, err := term.GetSize(int(file.Fd()))
		if err != nil || columns == 0 || rows == 0 {
			return 80, 24
		}
		return columns, rows
	}
}

// forTask returns a terminal for the task of a box, beside the tasks of other boxes.
func (t *terminal) forTask(name string) *terminal {
	own := *t
	own.line, own.task = t.screen.NewLine(), name
	return &own
}

// interactive reports whether a person can answer: stdin and stdout are terminals.
func (t *terminal) interactive() bool { return term.IsTerminal(int(t.in.Fd())) && t.isTerminal() }

// isTerminal reports whether a person reads results.
func (t *terminal) isTerminal() bool { return term.IsTerminal(int(t.out.Fd())) }

// note prints a line for the person at the terminal.
func (t *terminal) note(text string) { t.screen.Note(noteOf(text)) }

func noteOf(text string) string { return "boxrun: " + shown(text) }

// longestNote limits a line on stderr, in characters.
const longestNote = 4000

// shown returns a line fit to print.
func shown(line string) string { return say.Plain(say.Cut(line, longestNote)) }

func (t *terminal) notef(format string, args ...any) { t.note(fmt.Sprintf(format, args...)) }

// live shows what a long step of the task is doing, with the name of the task's box; "" ends the step.
func (t *terminal) live(text string) {
	if begin := t.task + ": "; t.task != "" && text != "" && !strings.HasPrefix(text, begin) {
		text = begin + text
	}
	t.line.Show("boxrun: ", shown(text))
}

// lines prints a result of lines, nothing for none. A line that has a line end in it stays one line.
func (t *terminal) lines(lines []string) error {
	if len(lines) == 0 {
		return nil
	}
	return t.write(list.Map(lines, say.Plain))
}

func (t *terminal) write(lines []string) error {
	return t.screen.Result(strings.Join(lines, "\n") + "\n")
}

// commands prints the commands of a dry run, and returns err instead if there is one. Away from a terminal the commands
// come as they are, for a shell.
func (t *terminal) commands(commands []string, err error) error {
	switch {
	case err != nil || len(commands) == 0:
		return err
	case t.isTerminal():
		commands = strings.Split(strings.Join(commands, "\n"), "\n")
		return t.lines(commands)
	}
	return t.write(commands)
}

// json prints a result as JSON, for programs. Package json escapes ASCII control characters; others are escaped here. The
// result is for no browser, and "80->80" stays readable. An empty list is [].
func (t *terminal) json(v any) error {
	if list := reflect.ValueOf(v); list.Kind() == reflect.Slice && list.IsNil() {
		v = []string{}
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	return t.screen.Result(say.EscapedJSON(text.String()))
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
		return t.lines(list.Map(rows[1:], func(row []string) string { return row[0] }))
	}
	return t.spaced(gap, rows)
}

// table is result for rows of a table: on a terminal long cells are shortened, and columns left out, to fit its width.
func (t *terminal) table(v any, gap int, rows [][]string) error {
	if size := sizeOf(t.out); size != nil && !t.quiet {
		columns, _ := size()
		rows = say.Fit(rows, gap, columns)
	}
	return t.result(v, gap, rows)
}

// spaced prints rows with their cells aligned and at least gap blanks between columns. On a terminal last cells that are
// too long go on below.
func (t *terminal) spaced(gap int, rows [][]string) error {
	if size := sizeOf(t.out); size != nil {
		columns, _ := size()
		rows = say.Folded(rows, gap, columns)
	}
	out := bufio.NewWriter(t.out) // a tabwriter writes each cell by itself
	w := tabwriter.NewWriter(out, 0, 0, gap, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(list.Map(row, say.Printable), "\t"))
	}
	return errors.Join(w.Flush(), out.Flush())
}
