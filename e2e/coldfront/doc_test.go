package coldfront

import (
	"os"
	"strings"
	"testing"
)

// doc is docs/coldfront.md: the commands of each section, and whether a test has run them.
type doc struct {
	t        *testing.T
	commands map[string]string
	taken    map[string]bool
}

// readDoc reads the page. All its commands are in blocks of kind "console", behind the prompt of a host; those of
// kind "console not run: R" cannot be run here, for the reason R.
func readDoc(t *testing.T) doc {
	t.Helper()
	text, err := os.ReadFile("../../docs/coldfront.md")
	if err != nil {
		t.Fatal(err)
	}
	d := doc{t, map[string]string{}, map[string]bool{}}
	section, kind := "", ""
	for line := range strings.Lines(string(text)) {
		fence, isFence := strings.CutPrefix(line, "```")
		command, isCommand := strings.CutPrefix(line, "host# ")
		switch {
		case isFence:
			kind = strings.TrimSpace(fence)
		case kind == "console" && isCommand:
			d.commands[section] += command
		case kind != "" && !isCommand:
			t.Errorf("docs/coldfront.md shows %q in a block, which nothing looks at", line)
		case kind == "" && strings.HasPrefix(line, "#"):
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
