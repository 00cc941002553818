package screen

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

// Screen is where a command prints. Goroutines may share a Screen.
type Screen struct {
	out, err io.Writer
	size     func() (columns, rows int) // of the terminal; nil: there is no terminal

	mu    sync.Mutex
	lines []*Line // live now, in the order of their beginning
	drawn int     // live lines on the terminal
}

// New returns a screen that prints results to out, and notes and live lines to err. size tells the size of err's
// terminal; nil where err is none: then a live line is printed when its subject changes.
func New(out, err io.Writer, size func() (columns, rows int)) *Screen {
	return &Screen{out: out, err: err, size: size}
}

// Note prints a line to err.
func (s *Screen) Note(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.erase()
	fmt.Fprintln(s.err, line)
	s.draw()
}

// Result prints text to out, right after the notes, with no other task's words in between.
func (s *Screen) Result(text string, notes ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.erase()
	defer s.draw()
	for _, note := range notes {
		fmt.Fprintln(s.err, note)
	}
	_, err := io.WriteString(s.out, text)
	return err
}

// erase takes the live lines off the terminal. The cursor is then where the first live line began.
func (s *Screen) erase() {
	if s.drawn > 0 {
		fmt.Fprint(s.err, "\r\x1b[K"+strings.Repeat("\x1b[A\x1b[K", s.drawn-1))
	}
	s.drawn = 0
}

// draw puts the live lines on the terminal, each cut to a single row. Lines for lack of rows are counted.
func (s *Screen) draw() {
	if s.size == nil || len(s.lines) == 0 {
		return
	}
	columns, rows := s.size()
	var texts []string
	for i, l := range s.lines {
		if left := len(s.lines) - i; left > 1 && len(texts) == max(rows-2, 1) {
			texts = append(texts, fmt.Sprintf("... and %d more", left))
			break
		}
		texts = append(texts, cut(l.text, columns-1))
	}
	fmt.Fprint(s.err, strings.Join(texts, "\n"))
	s.drawn = len(texts)
}

// cut returns the beginning of a text, at most columns wide, where every character is as wide as any other.
func cut(text string, columns int) string {
	if runes := []rune(text); columns > 0 && len(runes) > columns {
		return string(runes[:columns])
	}
	return text
}

// Line is the live line of a task.
type Line struct {
	s       *Screen
	text    string
	subject string    // of the latest text
	began   time.Time // when the step of the line began; zero between steps
}

// NewLine returns a line that shows nothing yet.
func (s *Screen) NewLine() *Line { return &Line{s: s} }

// Show shows what a long step is doing; "" ends the step. The subject of a text is the part before " (". Away from a
// terminal a text is printed, after before, once a step has taken a second, and when its subject changes: the seconds in
// brackets are not worth a line each.
func (l *Line) Show(before, text string) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if text != "" && l.began.IsZero() {
		l.began = time.Now()
	}
	if l.s.size != nil {
		l.showLive(text)
	} else {
		l.showChange(before, text)
	}
	if text == "" {
		l.began = time.Time{}
	}
}

func (l *Line) showLive(text string) {
	if text == l.text {
		return
	}
	l.s.erase()
	at := slices.Index(l.s.lines, l)
	switch {
	case text == "":
		l.s.lines = slices.Delete(l.s.lines, at, at+1)
	case at < 0:
		l.s.lines = append(l.s.lines, l)
	}
	l.text = text
	l.s.draw()
}

func (l *Line) showChange(before, text string) {
	subject, _, _ := strings.Cut(text, " (")
	if text != "" && (subject == l.subject || time.Since(l.began) < time.Second) {
		return
	}
	if l.subject = subject; text != "" {
		fmt.Fprintln(l.s.err, before+subject)
	}
}
