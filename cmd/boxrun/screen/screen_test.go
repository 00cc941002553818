package screen

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Live lines are written over, stay below notes and results, and fit the terminal.
func TestLiveLines(t *testing.T) {
	var out strings.Builder
	s := New(&out, &out, func() (int, int) { return 20, 4 })
	one, two := s.NewLine(), s.NewLine()
	step := func(do func(), want string) {
		t.Helper()
		out.Reset()
		if do(); out.String() != want {
			t.Errorf("got %q, want %q", out.String(), want)
		}
	}
	step(func() { one.Show("", "one: waits") }, "one: waits")
	step(func() { one.Show("", "one: waits") }, "")
	step(func() { two.Show("", "two: waits for what has a long name") }, "\r\x1b[Kone: waits\ntwo: waits for what")
	step(func() { s.Note("a note") }, "\r\x1b[K\x1b[A\x1b[Ka note\none: waits\ntwo: waits for what")
	step(func() { _ = s.Result("a result\n", "kept:") }, "\r\x1b[K\x1b[A\x1b[Kkept:\na result\none: waits\ntwo: waits for what")
	three := s.NewLine()
	step(func() { three.Show("", "three") }, "\r\x1b[K\x1b[A\x1b[Kone: waits\ntwo: waits for what\nthree")
	four := s.NewLine()
	step(func() { four.Show("", "four") }, "\r\x1b[K\x1b[A\x1b[K\x1b[A\x1b[Kone: waits\ntwo: waits for what\n... and 2 more")
	step(func() { one.Show("", "") }, "\r\x1b[K\x1b[A\x1b[K\x1b[A\x1b[Ktwo: waits for what\nthree\nfour")
	for _, l := range []*Line{two, three, four, four} {
		l.Show("", "")
	}
	step(func() { s.Note("a note") }, "a note\n")
}

// Away from a terminal a line is printed when its subject changes, once the step takes long.
func TestLinesAwayFromATerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		l := New(&out, &out, nil).NewLine()
		for i, text := range []string{"a", "a (1s)", "a (2s)", "b (3s)", "", "a", "a (1s)"} {
			if i > 0 && text != "" {
				time.Sleep(time.Second)
			}
			l.Show("boxrun: ", text)
		}
		if want := "boxrun: a\nboxrun: b\nboxrun: a\n"; out.String() != want {
			t.Errorf("got %q, want %q", out.String(), want)
		}
	})
}
