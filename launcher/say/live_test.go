package say

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"boxrun/launcher/testkit"
)

func TestPrintable(t *testing.T) {
	testkit.WantText(t, Printable("größe.service\x1b[2J\n\a\xff"), "größe.service?[2J??\ufffd")
}

// TestLiveLine has a clock of its own.
func TestLiveLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines []string
		l := NewLive(func(line string) { lines = append(lines, line) })
		l.Say("a")
		l.Say("b") // too soon
		time.Sleep(110 * time.Millisecond)
		l.Say("a") // nothing new
		l.Say("b")
		l.End()
		time.Sleep(110 * time.Millisecond)
		l.Say("c") // over
		testkit.WantText(t, strings.Join(lines, "|"), "a|b|")
	})
}
