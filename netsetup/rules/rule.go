package rules

import (
	"slices"
	"strings"
)

// Names of what is boxrun's. The names never change: what an older boxrun left behind is found by them.
const (
	MarkPrefix  = "boxrun:"    // of comments of rules, and of aliases of bridges
	ChainPrefix = "BOXRUN-"    // of chains
	DNATPrefix  = "BOXRUN-DN-" // of the chain in nat with a box's ports; the box's name follows
)

// Rule is a rule of a chain, taken apart.
type Rule struct {
	Text    string  // as Normal writes the rule, without "-A CHAIN"
	Printed string  // as iptables-save printed the rule, without "-A CHAIN"
	Matches []Match // the conditions, in the order of the text
	Target  string  // a chain, or a verdict such as ACCEPT, DNAT or LOG; "" for none
	Goto    bool    // -g: packets do not come back from the chain Target
	To      string  // where DNAT or REDIRECT sends packets, in iptables' words: "10.22.0.2:80"
	Packets uint64  // how many packets met the rule; 0 where no counters were printed
}

// Match is a condition of a rule: "! --dport 80:90".
type Match struct {
	Not    bool
	Name   string // "--dport"
	Values []string
}

// Value returns the first value, "" for none.
func (m Match) Value() string {
	if len(m.Values) == 0 {
		return ""
	}
	return m.Values[0]
}

// ParseRule takes a rule apart. The parts must be in the order of iptables-save: conditions, the target, options of
// the target. Text and Printed are the text as given.
func ParseRule(text string) Rule { return ruleOf(text, Split(text)) }

// ruleOf is ParseRule for a text that has been split.
func ruleOf(text string, words []string) Rule {
	r := Rule{Text: text, Printed: text}
	for i := 0; i < len(words); i++ {
		if words[i] == "-j" || words[i] == "-g" {
			r.Goto = words[i] == "-g"
			r.readTarget(words[i+1:])
			return r
		}
		m := Match{Not: words[i] == "!"}
		if m.Not && i+1 < len(words) {
			i++
		}
		m.Name = words[i]
		first := i + 1
		for i+1 < len(words) && (!isOption(words[i+1]) || m.Name == "--comment" && i+1 == first) {
			i++
		}
		if i >= first {
			m.Values = words[first : i+1 : i+1]
		}
		r.Matches = append(r.Matches, m)
	}
	return r
}

func isOption(word string) bool {
	return word == "!" || len(word) > 1 && word[0] == '-' && (word[1] < '0' || word[1] > '9')
}

func (r *Rule) readTarget(words []string) {
	if len(words) > 0 {
		r.Target = words[0]
	}
	i := slices.IndexFunc(words, func(w string) bool { return w == "--to-destination" || w == "--to-ports" })
	if i >= 0 && i+1 < len(words) {
		r.To = words[i+1]
	}
}

// Comment returns the comment of the rule, "" for none.
func (r Rule) Comment() string {
	for _, m := range r.Matches {
		if m.Name == "--comment" {
			return m.Value()
		}
	}
	return ""
}

// Marked reports whether the comment of the rule is a mark of boxrun's.
func (r Rule) Marked() bool { return strings.HasPrefix(r.Comment(), MarkPrefix) }

// Ours reports whether the rule is boxrun's: a rule with boxrun's mark, or a jump without the mark to a chain of
// boxrun's.
func (r Rule) Ours() bool { return r.Marked() || strings.HasPrefix(r.Target, ChainPrefix) }

// Ours reports whether a rule of any firewall is boxrun's. The rule is a command as typed: a rule in a chain of
// boxrun's counts, too.
func Ours(command string) bool {
	return ParseRule(command).Marked() || slices.ContainsFunc(Split(command), func(word string) bool {
		return strings.HasPrefix(word, ChainPrefix)
	})
}

// Normal rewrites a rule, boxrun's or as printed by iptables-save, so that the same rule has the same text: iptables
// adds /32 or /128 to addresses, -m tcp to -p tcp, and quotes. The parts must be in iptables' order: addresses, devices,
// protocol, matches, target.
func Normal(rule string) string { return joined(normalWords(rule)) }

// normalWords returns the words of Normal.
func normalWords(rule string) []string {
	words := Split(rule)
	out := words[:0]
	for _, word := range words {
		last := len(out) - 1
		switch {
		case last > 1 && out[last] == "-m" && out[last-2] == "-p" && out[last-1] == word:
			out = out[:last] // -p tcp -m tcp
		case last >= 0 && (out[last] == "-s" || out[last] == "-d"):
			out = append(out, withoutLength(word))
		default:
			out = append(out, word)
		}
	}
	return out
}

// joined is the inverse of Split.
func joined(words []string) string {
	var line strings.Builder
	for i, word := range words {
		if i > 0 {
			line.WriteByte(' ')
		}
		line.WriteString(quote(word))
	}
	return line.String()
}

// withoutLength returns an address without the length of a single address.
func withoutLength(word string) string {
	if strings.Contains(word, ":") {
		return strings.TrimSuffix(word, "/128")
	}
	return strings.TrimSuffix(word, "/32")
}

// Split splits a line into words as iptables-restore does: at blanks outside double quotes. Within quotes a backslash
// keeps the next character.
func Split(line string) []string {
	words := make([]string, 0, 1+strings.Count(line, " "))
	for line = strings.TrimLeft(line, " "); line != ""; line = strings.TrimLeft(line, " ") {
		word, rest, _ := strings.Cut(line, " ")
		if strings.Contains(word, `"`) {
			word, rest = quotedWord(line)
		}
		words, line = append(words, word), rest
	}
	return words
}

// quotedWord returns the first word of a line, which has quotes, and what follows the word.
func quotedWord(line string) (word, rest string) {
	if end := strings.IndexAny(line[1:], `"\`) + 1; line[0] == '"' && end > 0 && line[end] == '"' &&
		(end+1 == len(line) || line[end+1] == ' ') {
		return line[1:end], line[end+1:] // as nearly all are
	}
	var b strings.Builder
	quoted, escaped := false, false
	for i, c := range line {
		switch {
		case escaped:
			b.WriteRune(c)
			escaped = false
		case quoted && c == '\\':
			escaped = true
		case c == '"':
			quoted = !quoted
		case c == ' ' && !quoted:
			return b.String(), line[i:]
		default:
			b.WriteRune(c)
		}
	}
	return b.String(), ""
}

// quote is the inverse of Split for a word.
func quote(word string) string {
	if word != "" && !strings.ContainsAny(word, " \"\\'") {
		return word
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(word) + `"`
}

// Behind reports whether a rule of others comes before boxrun's rule with the text in a list. Rules of boxrun are in any order.
func Behind(list []Rule, text string) bool {
	other := slices.IndexFunc(list, func(r Rule) bool { return !r.Ours() })
	own := slices.IndexFunc(list, func(r Rule) bool { return r.Text == text })
	return other >= 0 && other < own
}
