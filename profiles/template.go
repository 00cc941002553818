package profiles

import (
	_ "embed" // for the template
	"strings"
)

//go:embed template.toml
var template string

// Template returns the text of a new profile called name. The text is valid and has every key, with the default as a
// comment.
func Template(name string) string {
	return strings.ReplaceAll(template, "NAME", name)
}
