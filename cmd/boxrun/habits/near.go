package habits

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"boxrun/near"
)

// MeantVerb guesses the verb of cmd meant by word, as text to append to an error; "" where no verb is near, and no other tool
// has such a verb for what the verbs of cmd do.
func MeantVerb(cmd *cobra.Command, word string) string {
	var verbs []string
	for _, verb := range cmd.Commands() {
		if verb.IsAvailableCommand() {
			verbs = append(verbs, append(verb.Aliases, verb.Name())...)
		}
	}
	if near := nearest(word, verbs); near != "" {
		return fmt.Sprintf(", did you mean %q?", near)
	}
	if instead := foreignVerbs()[word]; strings.Contains(instead, `"`+cmd.CommandPath()+" ") {
		return ": " + instead // as of "edit" behind a verb with verbs of its own
	}
	if instead := foreignVerbs()[cmd.Name()+"-"+word]; instead != "" {
		return ": " + instead
	}
	return ""
}

// nearest returns the verb or flag probably meant by word; "" for none. Two wrong letters of four are too many:
// tcsh would become bash.
func nearest(word string, words []string) string { return near.Word(word, words, 1+len(word)/5) }
