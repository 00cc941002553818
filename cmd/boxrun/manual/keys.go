package manual

import (
	_ "embed" // for the text before the keys
	"fmt"
	"strings"

	"boxrun/profiles"
)

// AboutProfiles says in Markdown what a profile is, and where profiles are looked for.
//
//go:embed profile.md
var AboutProfiles string

// reference returns boxrun.toml(5) in Markdown.
func reference(version string) string {
	return fmt.Sprintf("%% \"BOXRUN.TOML\" \"5\" \"\" \"boxrun %s\" \"boxrun\"\n", version) +
		"# NAME\nboxrun.toml - the profile of a box\n\n# DESCRIPTION\n" +
		strings.ReplaceAll(AboutProfiles, "\n## ", "\n### ") + "\n" + Keys("#") +
		"# SEE ALSO\n**boxrun(1)**, **boxrun-profile(1)**, **boxrun-up(1)**\n"
}

// Keys describes every key of the format in Markdown, with a heading for each table. heading is the mark of the
// headings, such as "#".
func Keys(heading string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s Keys of the top level\n\n", heading)
	for _, e := range profiles.Reference() {
		if strings.HasPrefix(e.Type, "table") && !strings.Contains(e.Key, ".") {
			fmt.Fprintf(&b, "%s [%s]\n\n", heading, e.Key)
			if e.About != "" {
				b.WriteString(e.About + "\n\n")
			}
			continue
		}
		byDefault := "required"
		if e.Default != "" {
			byDefault = "`" + e.Default + "` by default"
		}
		fmt.Fprintf(&b, "### %s\n\n%s, %s.\n\n%s\n\n", e.Key, e.Type, byDefault, e.About)
	}
	return b.String()
}
