package profiles

import (
	"fmt"
	"strings"
	"time"
)

// Error is one thing wrong with a profile.
type Error struct {
	File    string `json:"file"`    // as it was named
	Line    int    `json:"line"`    // from 1; 0 where no line of the file is at fault, as with a missing key
	Key     string `json:"key"`     // such as "network.ports[1]"; empty for syntax errors
	Message string `json:"message"` // the rule and the value that breaks it
}

// Error gives "file:line: key: message", leaving out what is not known.
func (e Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	if e.Key != "" {
		b.WriteString(": " + e.Key)
	}
	b.WriteString(": " + e.Message)
	return b.String()
}

// Errors is everything wrong with one profile, in the order of its lines. It is never empty when returned as an error.
type Errors []Error

// Error gives one line for each.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i := range e {
		lines[i] = e[i].Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.As find a single Error.
func (e Errors) Unwrap() []error {
	all := make([]error, len(e))
	for i := range e {
		all[i] = e[i]
	}
	return all
}

// shown renders a decoded TOML value for a message, on one line and not too long.
func shown(value any) string {
	switch v := value.(type) {
	case string:
		return quoted(v)
	case bool, int64, float64:
		return fmt.Sprint(v)
	case time.Time:
		return "a date or time"
	case []any, []map[string]any:
		return "a list"
	case map[string]any:
		return "a table"
	}
	return fmt.Sprintf("a %T", value)
}

// quoted gives s in quotes, cut where it would fill the screen.
func quoted(s string) string {
	const most = 80 // characters
	if r := []rune(s); len(r) > most {
		return fmt.Sprintf("%q...", string(r[:most]))
	}
	return fmt.Sprintf("%q", s)
}
