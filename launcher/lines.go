package launcher

import (
	"bytes"
	"regexp"
	"strings"
	"unicode"
)

// lineWriter hands on what is written to it line by line, without the ends. It is not for two writers at once.
type lineWriter struct {
	Show func(line string) error
	rest []byte
}

// longestLine bounds in bytes what is kept of a line that does not end; it is shown in parts.
const longestLine = 64 * 1024

// Write fails as Show does.
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

// end shows a last line that has no end.
func (w *lineWriter) end() error {
	if len(w.rest) == 0 {
		return nil
	}
	line := string(w.rest)
	w.rest = nil
	return w.Show(line)
}

// A colour is all that a box may tell the terminal of whoever reads its lines.
var colour = regexp.MustCompile("\x1b\\[[0-9;]*m")

// plainLine gives a line that a box said without what a terminal could take for a command: root inside may say what he
// likes. Colours are dropped.
func plainLine(line string) string {
	return strings.Map(harmless, colour.ReplaceAllString(strings.TrimSuffix(line, "\r"), ""))
}

// colouredLine is plainLine, but keeps colours; they end with the line.
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

func harmless(r rune) rune {
	if r != '\t' && !unicode.IsPrint(r) {
		return '?'
	}
	return r
}
