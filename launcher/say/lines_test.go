package say

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"boxrun/launcher/testkit"
)

func TestLineWriter(t *testing.T) {
	long := strings.Repeat("x", longestLine)
	for name, c := range map[string]struct {
		written []string
		want    []string
	}{
		"nothing":              {nil, nil},
		"lines":                {[]string{"one\ntwo\n"}, []string{"one", "two"}},
		"lines in parts":       {[]string{"o", "ne\ntw", "o\n"}, []string{"one", "two"}},
		"empty lines":          {[]string{"\n\n"}, []string{"", ""}},
		"a last one unended":   {[]string{"one\ntwo"}, []string{"one", "two"}},
		"one that has no end":  {[]string{long, "y"}, []string{long, "y"}},
		"one that just has it": {[]string{long[1:], "\n"}, []string{long[1:]}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			w := &LineWriter{Show: func(line string) error { got = append(got, line); return nil }}
			for _, text := range c.written {
				fmt.Fprint(w, text)
			}
			if err := w.End(); err != nil {
				t.Fatal(err)
			}
			testkit.WantText(t, fmt.Sprintf("%q", got), fmt.Sprintf("%q", c.want))
		})
	}
}

func TestLineWriterFailsAsItsReader(t *testing.T) {
	gone := errors.New("nobody reads")
	w := &LineWriter{Show: func(string) error { return gone }}
	if _, err := w.Write([]byte("one\n")); !errors.Is(err, gone) {
		t.Errorf("got %v, want %v", err, gone)
	}
}

// What a box says is for people to read and does nothing to their terminals.
func TestLinesOfABox(t *testing.T) {
	for line, want := range map[string][2]string{
		"plain\ttext":                    {"plain\ttext", "plain\ttext"},
		"\x1b[31mred\x1b[0m":             {"red", "\x1b[31mred\x1b[0m"},
		"\x1b[1;31mopen":                 {"open", "\x1b[1;31mopen\x1b[0m"},
		"a\x1b[2J\x1b]0;title\abc\r":     {"a?[2J?]0;title?bc", "a?[2J?]0;title?bc"},
		"\x1b\x1b[31m[2J":                {"?[2J", "?\x1b[31m[2J\x1b[0m"},
		"over\rwritten\b\x7f\u009b2J":    {"over?written???2J", "over?written???2J"},
		"not utf-8 \xff, turned \u202e.": {"not utf-8 \ufffd, turned ?.", "not utf-8 \ufffd, turned ?."},
	} {
		testkit.WantText(t, Plain(line), want[0])
		testkit.WantText(t, Coloured(line), want[1])
	}
}

// A line written over is its end.
func TestFinal(t *testing.T) {
	for line, want := range map[string]string{"": "", "a\r": "a", "10%\r100%\r\r": "100%", "a\rb": "b"} {
		if got := Final(line); got != want {
			t.Errorf("%q: got %q, want %q", line, got, want)
		}
	}
}
