package cluster

import (
	"strings"
	"testing"

	"boxrun/e2e/page"
)

// guide is docs/cluster.md: the commands of its console blocks and its files, by section.
type guide struct {
	t        *testing.T
	commands map[string]string
	files    map[string]string
}

func readPage(t *testing.T) guide {
	t.Helper()
	blocks, err := page.Blocks("../../docs/cluster.md")
	if err != nil {
		t.Fatal(err)
	}
	g := guide{t, map[string]string{}, map[string]string{}}
	for _, b := range blocks {
		switch b.Kind {
		case "toml", "text keepalived.conf", "text haproxy.cfg":
			g.files[b.Section] = strings.Join(b.Lines, "\n") + "\n"
			continue
		case "yaml", "text": // for Ansible
			continue
		}
		for _, line := range b.Lines {
			command, isCommand := strings.CutPrefix(line, "host# ")
			if !isCommand || b.Kind != "console" {
				t.Errorf("%s: nothing looks at %q", b.At(), line)
			}
			g.commands[b.Section] += command + "\n"
		}
	}
	return g
}

// typed gives the commands of a section, each of which is typed by a test.
func (g guide) typed(section string) string {
	g.t.Helper()
	commands := g.commands[section]
	if commands == "" {
		g.t.Fatalf("the page has no commands in section %q", section)
	}
	delete(g.commands, section)
	return commands
}

// The commands of the page are those that TestCluster types.
func TestPageIsTyped(t *testing.T) {
	g := readPage(t)
	g.typed("With crm")
	g.typed("With pcs")
	g.typed("A database")
	g.typed("Boxes without data")
	g.typed("With keepalived")
	g.typed("HAProxy in front")
	g.typed("HAProxy with crm")
	g.typed("HAProxy with pcs")
	g.typed("Draining")
	g.typed("The same on all hosts")
	for section := range g.commands {
		t.Errorf("nobody types the commands of section %q", section)
	}
}
