package profiles

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
)

// A section is a table of a document.
type section struct {
	doc   *document
	path  string // "" for the top
	raw   map[string]any
	known []string // the keys asked for
}

// take returns the raw value of a key and records the key as part of the format.
func (s *section) take(name string) (any, bool) {
	s.known = append(s.known, name)
	v, ok := s.raw[name]
	return v, ok
}

// refuse records what is wrong with the value of name. name may be an element such as "ports[1]".
func (s *section) refuse(name, format string, args ...any) {
	if s.path != "" {
		name = s.path + "." + name
	}
	s.doc.refuse(name, format, args...)
}

// valid reports whether all the keys decoded without a mistake. Rules over several keys make sense only then.
func (s *section) valid(names ...string) bool {
	return !slices.ContainsFunc(names, func(name string) bool { return s.doc.failed[join(s.path, name)] })
}

// table returns the table called name. A missing table is an empty table; a value of another type is refused.
func (s *section) table(name string) *section {
	raw := map[string]any{}
	if v, ok := s.take(name); ok {
		if t, ok := v.(map[string]any); ok {
			raw = t
		} else {
			s.refuse(name, "must be a table, got %s", shown(v))
		}
	}
	return s.doc.section(join(s.path, name), raw)
}

// wrongType refuses a value that has another type than want, such as "a string".
func (s *section) wrongType(name, want string, got any) {
	s.refuse(name, "must be %s, got %s", want, shown(got))
}

// one decodes a string key with parse. The error of parse states the rule without the value. A missing key leaves into
// as it is.
func one[T any](s *section, name string, into *T, parse func(string) (T, error)) {
	if raw, ok := s.take(name); ok {
		if v, ok := element(s, name, raw, parse); ok {
			*into = v
		}
	}
}

// many decodes a list of strings, each with parse. A refused element stays in the list as a zero value, so that indexes
// equal the indexes in the file.
func many[T any](s *section, name string, into *[]T, parse func(string) (T, error)) {
	if raw, ok := s.list(name, "a list of strings"); ok {
		*into = make([]T, len(raw))
		for i, value := range raw {
			(*into)[i], _ = element(s, at(name, i), value, parse)
		}
	}
}

// entries decodes a table of strings with free keys, each value with parse. check gets the key and its raw value, and
// its error states the rule for keys.
func entries(s *section, name string, into map[string]string, check func(key string, value any) error,
	parse func(string) (string, error)) {
	raw, ok := s.take(name)
	if !ok {
		return
	}
	table, ok := raw.(map[string]any)
	if !ok {
		s.wrongType(name, "a table", raw)
		return
	}
	for _, key := range slices.Sorted(maps.Keys(table)) {
		path := join(name, key)
		if err := check(key, table[key]); err != nil {
			s.refuse(path, "%v", err)
			continue
		}
		if value, ok := element(s, path, table[key], parse); ok {
			into[key] = value
		}
	}
}

// list returns the raw elements of a list key. ok is false for a missing key and for a value that is no list.
func (s *section) list(name, want string) ([]any, bool) {
	raw, ok := s.take(name)
	if !ok {
		return nil, false
	}
	values, ok := raw.([]any)
	if !ok {
		s.wrongType(name, want, raw)
	}
	return values, ok
}

// at returns the name of an element of a list.
func at(name string, i int) string { return fmt.Sprintf("%s[%d]", name, i) }

// element decodes a string with parse, after expanding %i. For a refused string the value is zero and ok false.
func element[T any](s *section, name string, raw any, parse func(string) (T, error)) (value T, ok bool) {
	written, ok := raw.(string)
	if !ok {
		s.wrongType(name, "a string in quotes", raw)
		return value, false
	}
	full, err := expand(written, s.doc.instance)
	if err == nil {
		err = printable(full)
	}
	var parsed T
	if err == nil {
		parsed, err = parse(full)
	}
	if err != nil {
		s.refuse(name, "%v, got %s", err, quoted(written))
		return value, false
	}
	return parsed, true
}

// printable refuses control characters, except newlines and tabs. No value needs control characters, and values reach
// argument lists, files and terminals.
func printable(s string) error {
	if strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }) {
		return errors.New("must not have control characters")
	}
	return nil
}

// optional returns a parser that takes "" as the zero value, meaning the default.
func optional[T any](parse func(string) (T, error)) func(string) (T, error) {
	return func(s string) (value T, err error) {
		if s == "" {
			return value, nil
		}
		return parse(s)
	}
}

// prose accepts any text.
func prose(s string) (string, error) { return s, nil }

// choice returns a parser that accepts words only.
func choice(words ...string) func(string) (string, error) {
	return func(s string) (string, error) {
		if slices.Contains(words, s) {
			return s, nil
		}
		last := len(words) - 1
		return "", fmt.Errorf("must be %s or %s", strings.Join(words[:last], ", "), words[last])
	}
}

// whole decodes a whole number. The error of check states the rule.
func whole(s *section, name string, into *int, check func(int64) error) {
	if raw, ok := s.take(name); ok {
		if n, ok := number(s, name, raw, check); ok {
			*into = int(n)
		}
	}
}

// number decodes a whole number, of a key or of an element of a list.
func number(s *section, name string, raw any, check func(int64) error) (int64, bool) {
	n, ok := raw.(int64)
	if !ok {
		s.wrongType(name, "a whole number", raw)
		return 0, false
	}
	if err := check(n); err != nil {
		s.refuse(name, "%v, got %d", err, n)
		return 0, false
	}
	return n, true
}

// between returns a check that accepts numbers from least to most.
func between(least, most int64) func(int64) error {
	return func(n int64) error {
		if n < least || n > most {
			return fmt.Errorf("must be %d to %d", least, most)
		}
		return nil
	}
}
