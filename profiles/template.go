package profiles

import (
	_ "embed" // for the template
	"strings"
)

//go:embed template.toml
var template string

// Template gives the text of a new profile called name: it is valid, and has every key with its default as a comment.
func Template(name string) string {
	return strings.ReplaceAll(template, "NAME", name)
}
