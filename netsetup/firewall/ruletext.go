package firewall

import (
	"fmt"
	"strings"

	"boxrun/netsetup/rules"
)

// Text is RuleText, which looks a rule up once for all States made of this one.
func (s State) Text(rule string) string {
	text, known := s.texts.Load(rule)
	if !known {
		text, _ = s.texts.LoadOrStore(rule, RuleText(rule))
	}
	return text.(string)
}

// RuleText returns the words of a native rule named by its handle ("nft rule inet site forward handle 5"). Any other
// rule, and a rule that is gone, comes back as given.
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
