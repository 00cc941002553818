package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	fenced     = regexp.MustCompile("(?ms)^```.*?^```$")
	inlineVerb = regexp.MustCompile("[`(\"]boxrun ([a-z][^`\"]*)[`\"]")
)

// Commands in running text have verbs and flags that there are; those in blocks are typed on a host, by the tests in e2e.
func TestPagesNameVerbsAndFlags(t *testing.T) {
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(files) == 0 {
		t.Fatalf("got pages %q, %v", files, err)
	}
	for _, file := range append(files, "../../README.md", "manual/profile.md", "manual/man.md", "../../profiles/template.toml") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range inlineVerb.FindAllStringSubmatch(fenced.ReplaceAllString(string(text), ""), -1) {
			if err := parsed(strings.Fields(m[1])); err != nil {
				t.Errorf("%s: `boxrun %s`: %v", filepath.Base(file), m[1], err)
			}
		}
	}
}

// parsed says what is wrong with a command line, but for what stands behind its verb and flags.
func parsed(words []string) error {
	cmd, rest, err := rootCommand().Find(words)
	if err != nil {
		return err
	}
	return cmd.ParseFlags(rest)
}
