package firewall

import (
	"fmt"
	"strings"

	"boxrun/netsetup/rules"
)

// RuleText gives a rule that a walk named with its words, where it is named by its handle only ("nft rule inet site
// forward handle 5"); any other, and one that has gone, as it is.
func RuleText(rule string) string {
	words := strings.Fields(rule)
	if len(words) != 7 || words[1] != "rule" || words[5] != "handle" {
		return rule
	}
	chain := words[2:5]
	out, err := rules.Run("", "nft", append([]string{"-a", "list", "chain"}, chain...)...)
	if err != nil {
		return rule
	}
	for line := range strings.Lines(out) {
		if text, handle, ok := strings.Cut(strings.TrimSpace(line), " # handle "); ok && handle == words[6] {
			return fmt.Sprintf("nft rule %s %s", strings.Join(chain, " "), text)
		}
	}
	return rule
}
