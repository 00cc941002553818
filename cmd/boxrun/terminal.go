package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"golang.org/x/term"
)

// terminal is all that boxrun prints with.
//
//	stdout   results and nothing else: tables, JSON, names, paths
//	stderr   "boxrun: ..." for notes, "boxrun: error: ..." and then "boxrun: hint: ..." for what went wrong
//	live     on a terminal one line on stderr that is written over; elsewhere a plain line when its subject changes,
//	         once a step has taken a second
//
// No capitals at the start and no full stop at the end of a message.
type terminal struct {
	in       *os.File
	out, err *os.File
	mu       sync.Mutex
	isTTY    bool
	subject  string    // of the live line that is showing or was printed last
	began    time.Time // when the step that the live line is about began; zero between steps
}

func newTerminal(in, out, err *os.File) *terminal {
	return &terminal{in: in, out: out, err: err, isTTY: term.IsTerminal(int(err.Fd()))}
}

// interactive says whether a person can answer: stdin and stdout are terminals.
func (t *terminal) interactive() bool {
	return term.IsTerminal(int(t.in.Fd())) && term.IsTerminal(int(t.out.Fd()))
}

// note prints one line for the person at the terminal.
func (t *terminal) note(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clearLive()
	fmt.Fprintln(t.err, "boxrun: "+text)
}

func (t *terminal) notef(format string, args ...any) { t.note(fmt.Sprintf(format, args...)) }

// fail prints an error, each line of it as one, and its hint.
func (t *terminal) fail(err error, hint string) {
	for _, line := range strings.Split(err.Error(), "\n") {
		t.note("error: " + line)
	}
	if hint != "" {
		t.note("hint: " + hint)
	}
}

// live shows what a long step is doing; "" ends it. The subject of a line is what stands before " (": elsewhere than on
// a terminal the seconds that follow are not worth a line each.
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

// json prints a result for programs.
func (t *terminal) json(v any) error {
	enc := json.NewEncoder(t.out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// table prints rows below a header.
func (t *terminal) table(header string, rows [][]string) error {
	return t.columns(append([][]string{strings.Fields(header)}, rows...))
}

// columns prints rows with their cells aligned.
func (t *terminal) columns(rows [][]string) error { return t.spaced(3, rows) }

// spaced is columns with so many blanks between them.
func (t *terminal) spaced(gap int, rows [][]string) error {
	w := tabwriter.NewWriter(t.out, 0, 0, gap, ' ', 0)
	for _, row := range rows {
		if _, err := fmt.Fprintln(w, strings.Join(row, "\t")); err != nil {
			return err
		}
	}
	return w.Flush()
}
