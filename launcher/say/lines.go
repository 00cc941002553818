package say

import (
	"bytes"
	"regexp"
	"strings"
	"sync"
	"unicode"
)

// LineWriter passes its input on to Show, line by line, without the line ends. Goroutines may share a LineWriter:
// Show is called once at a time.
type LineWriter struct {
	Show func(line string) error
	mu   sync.Mutex
	rest []byte
}

// longestLine limits the bytes kept of an unfinished line. A longer line is shown in parts.
const longestLine = 64 * 1024

// Write shows the lines ended so far, and returns the error of Show.
func (w *LineWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest = append(w.rest, p...)
	for {
		line, rest, found := bytes.Cut(w.rest, []byte("\n"))
		if !found && len(line) < longestLine {
			return len(p), nil
		}
		w.rest = rest
		if err := w.Show(string(line)); err != nil {
			return 0, err
		}
	}
}

// End shows the last line if it has no line end, and returns the error of Show.
func (w *LineWriter) End() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.rest) == 0 {
		return nil
	}
	line := string(w.rest)
	w.rest = nil
	return w.Show(line)
}

// Colour matches the only escape sequences a box may send to its reader's terminal.
var Colour = regexp.MustCompile("\x1b\\[[0-9;]*m")

// Plain returns a line from a box without anything a terminal could take for a command, as root inside controls the
// text. Colours are dropped.
func Plain(line string) string {
	return strings.Map(harmless, Colour.ReplaceAllString(strings.TrimSuffix(line, "\r"), ""))
}

// Coloured is Plain but keeps colours. No colour lasts beyond the line.
func Coloured(line string) string {
	var b strings.Builder
	at, reset := 0, "\x1b[0m"
	for _, c := range Colour.FindAllStringIndex(line, -1) {
		b.WriteString(Plain(line[at:c[0]]) + line[c[0]:c[1]])
		at = c[1]
	}
	if at == 0 || strings.HasSuffix(line[:at], reset) {
		reset = ""
	}
	return b.String() + Plain(line[at:]) + reset
}

// Final returns what a terminal shows of a line in the end, where carriage returns had the line written over.
func Final(line string) string {
	line = strings.TrimRight(line, "\r")
	return line[strings.LastIndexByte(line, '\r')+1:]
}

// harmless returns r, or '?' for an unprintable character other than a tab.
func harmless(r rune) rune {
	if r != '\t' && !unicode.IsPrint(r) {
		return '?'
	}
	return r
}

// Head keeps the first 64 KiB written to it, and takes no note of the rest: what a box says is as long as the box likes.
type Head struct{ buf bytes.Buffer }

// Write never fails.
func (h *Head) Write(p []byte) (int, error) {
	h.buf.Write(p[:min(len(p), longestLine-h.buf.Len())])
	return len(p), nil
}

// String returns what was kept.
func (h *Head) String() string { return h.buf.String() }
