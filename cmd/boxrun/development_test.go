package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	roomRow   = regexp.MustCompile("(?m)^\\| (`.*`) \\| .* \\| (.*) \\|$")
	roomName  = regexp.MustCompile("`([a-z/]+)`")
	partNamed = regexp.MustCompile("`(?:[A-Z]\\w+\\.)?(\\w+)` in ((?:cmd|launcher|netsetup|profiles)/[a-z0-9_/]+\\.go)")
	pathNamed = regexp.MustCompile(`\b(?:cmd|launcher|netsetup|profiles|e2e|docs)/[a-z0-9_@./-]*[a-z0-9]\b`)
)

// Every package has its row in the map of docs/development.md, and every file the page names is there, with the functions and
// types that are said to be in it.
func TestDevelopmentPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/development.md")
	if err != nil {
		t.Fatal(err)
	}
	rooms := map[string]bool{}
	for _, row := range roomRow.FindAllStringSubmatch(string(page), -1) {
		for _, room := range roomName.FindAllStringSubmatch(row[1], -1) {
			rooms[room[1]] = true
			for _, file := range strings.Split(row[2], ", ") {
				if !strings.Contains(file, " ") && !there(filepath.Join(room[1], file)) {
					t.Errorf("the map says to begin with %s/%s, which is not there", room[1], file)
				}
			}
		}
	}
	docs, err := filepath.Glob("../../launcher/*/doc.go")
	if err != nil || len(docs) == 0 {
		t.Fatalf("got rooms %q, %v", docs, err)
	}
	for _, doc := range docs {
		room, _ := filepath.Rel("../..", filepath.Dir(doc))
		if !rooms[room] && !strings.HasSuffix(room, "test") {
			t.Errorf("the room %s has no row in the map", room)
		}
	}
	for _, path := range pathNamed.FindAllString(string(page), -1) {
		if !there(path) {
			t.Errorf("the page names %s, which is not there", path)
		}
	}
	for _, part := range partNamed.FindAllStringSubmatch(string(page), -1) {
		text, err := os.ReadFile(filepath.Join("../..", part[2]))
		if err != nil || !regexp.MustCompile(`(?m)^(func (\([^)]*\) )?|type )`+part[1]+`\b`).Match(text) {
			t.Errorf("the page says that %s is in %s: %v", part[1], part[2], err)
		}
	}
}

// there reports whether a path of the repository exists.
func there(path string) bool {
	_, err := os.Stat(filepath.Join("../..", path))
	return err == nil
}
