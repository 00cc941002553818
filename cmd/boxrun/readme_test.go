package main

import (
	"flag"
	"os"
	"strings"
	"testing"

	"boxrun/profiles"
)

func readme(t *testing.T) string { return page(t, "../../README.md") }

func page(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var update = flag.Bool("update", false, "write the golden plan into docs/networking.md")

// What the page says is done to the host is the golden plan, to the letter.
func TestPageShowsThePlan(t *testing.T) {
	plan, err := os.ReadFile("../../netsetup/testdata/plan.golden")
	if err != nil {
		t.Fatal(err)
	}
	const file = "../../docs/networking.md"
	before, rest, _ := strings.Cut(page(t, file), "```sh\n# serves all bridges\n")
	_, after, _ := strings.Cut(rest, "\n```")
	want := before + "```sh\n" + strings.TrimRight(string(plan), "\n") + "\n```" + after
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if page(t, file) != want {
		t.Error("networking.md does not show netsetup/testdata/plan.golden as it is now: run this test with -update")
	}
}

// Every verb has its row, and no row a verb that is not there.
func TestReadmeListsTheVerbs(t *testing.T) {
	_, table, _ := strings.Cut(readme(t), "| verb | does |")
	table, _, _ = strings.Cut(table, "\n\n")
	var rows []string
	for line := range strings.Lines(table) {
		if cell, ok := strings.CutPrefix(line, "| `"); ok {
			verb, _, _ := strings.Cut(cell, "`")
			rows = append(rows, strings.Fields(verb)[0])
		}
	}
	var verbs []string
	for _, cmd := range newRoot(newTerminal(os.Stdin, os.Stdout, os.Stderr), "").Commands() {
		if !cmd.Hidden {
			verbs = append(verbs, cmd.Name())
		}
	}
	for _, verb := range verbs {
		if !strings.Contains(table, "`"+verb) {
			t.Errorf("README.md has no row for %q", verb)
		}
	}
	for _, row := range rows {
		if !strings.Contains(" "+strings.Join(verbs, " ")+" completion ", " "+row+" ") {
			t.Errorf("README.md has a row for %q, which is no verb", row)
		}
	}
}

// The profiles the README explains are valid.
func TestReadmeProfile(t *testing.T) {
	for _, text := range strings.Split(readme(t), "```toml\n")[1:] {
		text, _, _ = strings.Cut(text, "```")
		if _, err := profiles.Parse("web.toml", []byte(text), ""); err != nil {
			t.Error(err)
		}
	}
}
