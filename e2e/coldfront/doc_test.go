package coldfront

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"boxrun/e2e/page"
)

// doc is docs/coldfront.md: the commands of each section, and whether a test has run them. With it goes what the README says.
type doc struct {
	t        *testing.T
	readme   []string // the README's, which come first
	commands map[string]string
	taken    map[string]bool
}

// notRun is how many blocks of the page are not run. This number is here so that one more is a decision.
const notRun = 1

// readDoc reads the page. The commands that can be run here are in blocks of kind "console", behind the prompt of a host.
func readDoc(t *testing.T) doc {
	t.Helper()
	blocks, err := page.Blocks("../../docs/coldfront.md")
	if err != nil {
		t.Fatal(err)
	}
	d := doc{t, readme(t), map[string]string{}, map[string]bool{}}
	left := 0
	for _, b := range blocks {
		if b.Kind != "console" {
			left++
		}
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
	if left != notRun {
		t.Errorf("%d blocks of the page are not run, want %d", left, notRun)
	}
	return d
}

// tested gives what the page says it was tested with.
func (d doc) tested() string {
	d.t.Helper()
	text, err := os.ReadFile("../../docs/coldfront.md")
	if err != nil {
		d.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\nTested with ")
	sentence, _, found := strings.Cut(rest, ".\n")
	if !found {
		d.t.Fatal("docs/coldfront.md does not say what was tested")
	}
	return strings.ReplaceAll(sentence, "\n", " ")
}

// The page says the versions that the recipe names.
func TestVersions(t *testing.T) {
	pinned, err := os.ReadFile("../../profiles/builtin/coldfront/requirements.txt")
	if err != nil {
		t.Fatal(err)
	}
	tested := readDoc(t).tested()
	for _, name := range []string{"ColdFront", "Django", "gunicorn"} {
		_, rest, _ := strings.Cut("\n"+string(pinned), "\n"+strings.ToLower(name)+"==")
		version, _, _ := strings.Cut(rest, " ")
		if version == "" || !regexp.MustCompile(name+` `+regexp.QuoteMeta(version)+`( and|,|$)`).MatchString(tested) {
			t.Errorf("requirements.txt has %s %q, and the page says %q", name, version, tested)
		}
	}
}

// readme gives the README's commands of the portal, one for each step of TestColdfront that needs one.
func readme(t *testing.T) []string {
	t.Helper()
	blocks, err := page.Blocks("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var commands []string
	for _, b := range blocks {
		for _, line := range b.Lines {
			if command, isCommand := strings.CutPrefix(line, "host# "); isCommand && b.Section == "A portal in three words" {
				command, _, _ = strings.Cut(command, " #")
				commands = append(commands, strings.TrimSpace(command))
			}
		}
	}
	want := []string{"boxrun build coldfront", "boxrun up coldfront", "boxrun shell coldfront", "boxrun down coldfront"}
	if !slices.Equal(commands, want) {
		t.Fatalf("the README's commands of the portal are %q, want %q, or a step of TestColdfront for another", commands, want)
	}
	return commands
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
