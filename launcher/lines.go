package launcher

import (
	"bytes"
	"regexp"
	"strings"
	"unicode"
)

// lineWriter passes its input on to Show, line by line, without the line ends. Two goroutines must not write at once.
type lineWriter struct {
	Show func(line string) error
	rest []byte
}

// longestLine limits the bytes kept of an unfinished line. A longer line is shown in parts.
const longestLine = 64 * 1024

// Write returns the error of Show, if any.
func (w *lineWriter) Write(p []byte) (int, error) {
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

// end shows the last line if it has no line end.
func (w *lineWriter) end() error {
	if len(w.rest) == 0 {
		return nil
	}
	line := string(w.rest)
	w.rest = nil
	return w.Show(line)
}

// colour matches the only escape sequences a box may send to its reader's terminal.
var colour = regexp.MustCompile("\x1b\\[[0-9;]*m")

// plainLine returns a line from a box without anything a terminal could take for a command, as root inside controls the
// text. Colours are dropped.
func plainLine(line string) string {
	return strings.Map(harmless, colour.ReplaceAllString(strings.TrimSuffix(line, "\r"), ""))
}

// colouredLine is plainLine but keeps colours. A coloured line ends with a reset.
func colouredLine(line string) string {
	var b strings.Builder
	at := 0
	for _, c := range colour.FindAllStringIndex(line, -1) {
		b.WriteString(plainLine(line[at:c[0]]) + line[c[0]:c[1]])
		at = c[1]
	}
	if at == 0 {
		return plainLine(line)
	}
	return b.String() + plainLine(line[at:]) + "\x1b[0m"
}

// harmless returns r, or '?' for an unprintable character other than a tab.
func harmless(r rune) rune {
	if r != '\t' && !unicode.IsPrint(r) {
		return '?'
	}
	return r
}
