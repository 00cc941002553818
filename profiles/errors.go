package profiles

import (
	"errors"
	"fmt"
	"time"
)

// Error is a mistake in a profile.
type Error struct {
	File    string `json:"file"`    // as named by the caller
	Line    int    `json:"line"`    // from 1; 0 where no line is at fault, as with a missing key
	Key     string `json:"key"`     // such as "network.ports[1]"; empty for syntax errors
	Message string `json:"message"` // the rule and the offending value
}

// Error returns "file:line: key: message", without the unknown parts.
func (e Error) Error() string {
	place := e.File
	if e.Line > 0 {
		place += fmt.Sprintf(":%d", e.Line)
	}
	if e.Key != "" {
		place += ": " + e.Key
	}
	return place + ": " + e.Message
}

// Errors holds all mistakes in a profile, in the order of the lines. Returned as an error, Errors is never empty.
type Errors []Error

// Error returns a line for each mistake.
func (e Errors) Error() string { return errors.Join(e.Unwrap()...).Error() }

// Unwrap lets errors.As find a single Error.
func (e Errors) Unwrap() []error {
	all := make([]error, len(e))
	for i := range e {
		all[i] = e[i]
	}
	return all
}

// shown renders a decoded TOML value for a message, on a single short line.
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

// quoted returns s in quotes, cut after 80 characters.
func quoted(s string) string {
	const most = 80 // characters
	if r := []rune(s); len(r) > most {
		return fmt.Sprintf("%q...", string(r[:most]))
	}
	return fmt.Sprintf("%q", s)
}
