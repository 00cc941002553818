package coldfront

import (
	"strings"
	"testing"

	"boxrun/e2e/page"
)

// doc is docs/coldfront.md: the commands of each section, and whether a test has run them.
type doc struct {
	t        *testing.T
	commands map[string]string
	taken    map[string]bool
}

// readDoc reads the page. The commands that can be run here are in blocks of kind "console", behind the prompt of a host.
func readDoc(t *testing.T) doc {
	t.Helper()
	blocks, err := page.Blocks("../../docs/coldfront.md")
	if err != nil {
		t.Fatal(err)
	}
	d := doc{t, map[string]string{}, map[string]bool{}}
	for _, b := range blocks {
		for _, line := range b.Lines {
			command, isCommand := strings.CutPrefix(line, "host# ")
			switch {
			case !isCommand:
				t.Errorf("%s: nothing looks at %q", b.At(), line)
			case b.Kind == "console":
				d.commands[b.Section] += command + "\n"
			}
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
