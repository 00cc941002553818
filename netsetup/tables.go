package netsetup

import (
	"fmt"
	"slices"
	"strings"
)

// tables holds rules by table and chain: what iptables-save prints, each rule as normal writes it.
type tables map[string]map[string][]string

// parseTables reads the output of iptables-save.
func parseTables(text string) (tables, error) {
	t := tables{}
	var chains map[string][]string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "*"):
			chains = map[string][]string{}
			t[line[1:]] = chains
		case strings.HasPrefix(line, ":"):
			name, _, _ := strings.Cut(line[1:], " ")
			chains[name] = []string{}
		case strings.HasPrefix(line, "-A "):
			chain, rule, _ := strings.Cut(line[3:], " ")
			chains[chain] = append(chains[chain], normal(rule))
		case strings.HasPrefix(line, "# Table `") && strings.Contains(line, "incompatible"):
			return nil, fmt.Errorf("iptables cannot read it: %s", strings.TrimPrefix(line, "# "))
		}
	}
	return t, nil
}

// chain gives a chain's rules, and whether it exists.
func (t tables) chain(table, name string) ([]string, bool) {
	rules, ok := t[table][name]
	return rules, ok
}

// normal rewrites a rule, ours or one that iptables-save printed, so that the same rule has the same text: iptables
// adds /32 to addresses, -m tcp to -p tcp, and quotes. Parts must already be in the order iptables prints them:
// addresses, devices, protocol, matches, target.
func normal(rule string) string {
	var out []string
	for _, f := range splitQuoted(rule) {
		last := len(out) - 1
		switch {
		case last > 0 && out[last] == "-m" && last > 1 && out[last-2] == "-p" && out[last-1] == f:
			out = out[:last] // -p tcp -m tcp
		case last >= 0 && (out[last] == "-s" || out[last] == "-d"):
			out = append(out, strings.TrimSuffix(f, "/32"))
		default:
			out = append(out, quoted(f))
		}
	}
	return strings.Join(out, " ")
}

// splitQuoted splits a line of "iptables -S" into words as iptables-restore does: at blanks, but not within double quotes;
// a backslash there keeps the next character.
func splitQuoted(line string) []string {
	var fields []string
	var field strings.Builder
	inside, begun, escaped := false, false, false
	for _, c := range line {
		switch {
		case escaped:
			field.WriteRune(c)
			escaped = false
		case inside && c == '\\':
			escaped = true
		case c == '"':
			inside, begun = !inside, true
		case c == ' ' && !inside:
			if begun {
				fields = append(fields, field.String())
			}
			field.Reset()
			begun = false
		default:
			field.WriteRune(c)
			begun = true
		}
	}
	if begun {
		fields = append(fields, field.String())
	}
	return fields
}

// quoted is the inverse of splitQuoted for one field.
func quoted(field string) string {
	if field != "" && !strings.ContainsAny(field, " \"\\'") {
		return field
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(field) + `"`
}

// target gives the chain or target a rule as normal writes it goes to, or "".
func target(rule string) string {
	fields := splitQuoted(rule)
	if i := slices.Index(fields, "-j"); i >= 0 && i+1 < len(fields) {
		return fields[i+1]
	}
	return ""
}

// comment gives a rule's comment, or "".
func comment(rule string) string {
	fields := splitQuoted(rule)
	if i := slices.Index(fields, "--comment"); i >= 0 && i+1 < len(fields) {
		return fields[i+1]
	}
	return ""
}
