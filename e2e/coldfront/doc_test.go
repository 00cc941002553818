package coldfront

import (
	"os"
	"strings"
	"testing"
)

// doc is docs/coldfront.md: for each section its commands, "```sh" blocks, and whether a test has run them.
type doc struct {
	t        *testing.T
	commands map[string]string
	taken    map[string]bool
}

// readDoc reads the page. Blocks that are no "sh" are for looking at.
func readDoc(t *testing.T) doc {
	t.Helper()
	text, err := os.ReadFile("../../docs/coldfront.md")
	if err != nil {
		t.Fatal(err)
	}
	d := doc{t, map[string]string{}, map[string]bool{}}
	section, inside := "", false
	for line := range strings.Lines(string(text)) {
		switch {
		case strings.HasPrefix(line, "```"):
			inside = line == "```sh\n"
		case inside:
			d.commands[section] += line
		case strings.HasPrefix(line, "#"):
			section = strings.TrimSpace(strings.TrimLeft(line, "#"))
		}
	}
	return d
}

// take gives the commands of a section.
func (d doc) take(section string) string {
	d.t.Helper()
	if d.commands[section] == "" {
		d.t.Fatalf("docs/coldfront.md has no commands in a section %q", section)
	}
	d.taken[section] = true
	return d.commands[section]
}

// allTaken wants all commands of the page to have been run.
func (d doc) allTaken(t *testing.T) {
	t.Helper()
	for section, commands := range d.commands {
		if !d.taken[section] {
			t.Errorf("nothing runs the commands of section %q in docs/coldfront.md:\n%s", section, commands)
		}
	}
}
