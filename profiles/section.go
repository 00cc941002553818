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

// A reader turns the raw value of a key or element called name into a T. A reader refuses every other value; ok is then
// false, and value arbitrary.
type reader[T any] func(s *section, name string, raw any) (value T, ok bool)

// take reads a key and records the key as part of the format. A missing key or a refused value leaves into as it is.
func take[T any](s *section, name string, into *T, read reader[T]) {
	s.known = append(s.known, name)
	raw, ok := s.raw[name]
	if !ok {
		return
	}
	if value, ok := read(s, name, raw); ok {
		*into = value
	}
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

// table returns the table called name. A missing table is an empty table, and so is a refused one.
func (s *section) table(name string) *section {
	var raw map[string]any
	take(s, name, &raw, typed[map[string]any]("a table"))
	return s.doc.section(join(s.path, name), raw)
}

// typed returns a reader of raw values of the type T, in words want.
func typed[T any](want string) reader[T] {
	return func(s *section, name string, raw any) (T, bool) {
		value, ok := raw.(T)
		if !ok {
			s.refuse(name, "must be %s, got %s", want, shown(raw))
		}
		return value, ok
	}
}

// checked returns a reader that turns the values of read into values of another type by parse. The error of parse
// states the rule without the value.
func checked[R, T any](read reader[R], parse func(R) (T, error)) reader[T] {
	return func(s *section, name string, raw any) (value T, ok bool) {
		from, ok := read(s, name, raw)
		if !ok {
			return value, false
		}
		value, err := parse(from)
		if err != nil {
			s.refuse(name, "%v, got %s", err, shown(raw))
		}
		return value, err == nil
	}
}

// whole returns a reader of whole numbers.
func whole[T any](parse func(int64) (T, error)) reader[T] {
	return checked(typed[int64]("a whole number"), parse)
}

// text returns a reader of strings.
func text[T any](parse func(string) (T, error)) reader[T] { return checked(expanded, parse) }

// expanded reads a string, and expands %i. Control characters are refused, those for the direction of text too, except
// newlines and tabs: no value needs control characters, and values reach argument lists, files and terminals.
func expanded(s *section, name string, raw any) (string, bool) {
	return checked(typed[string]("a string in quotes"), func(written string) (string, error) {
		full, err := expand(written, s.doc.instance)
		control := func(r rune) bool { return unicode.In(r, unicode.Cc, unicode.Bidi_Control) && r != '\n' && r != '\t' }
		if err == nil && strings.ContainsFunc(full, control) {
			err = errors.New("must not have control characters")
		}
		return full, err
	})(s, name, raw)
}

// texts returns a reader of lists of strings.
func texts[T any](parse func(string) (T, error)) reader[[]T] {
	return list("a list of strings", text(parse))
}

// list returns a reader of lists, in words want. A refused element stays in the list as a zero value, so that indexes
// equal the indexes in the file.
func list[T any](want string, read reader[T]) reader[[]T] {
	return func(s *section, name string, raw any) ([]T, bool) {
		elements, ok := typed[[]any](want)(s, name, raw)
		values := make([]T, len(elements))
		for i, element := range elements {
			if value, ok := read(s, at(name, i), element); ok {
				values[i] = value
			}
		}
		return values, ok
	}
}

// at returns the name of an element of a list.
func at(name string, i int) string { return fmt.Sprintf("%s[%d]", name, i) }

// entries returns a reader of tables with free keys. check gets a key and its raw value, and its error states the rule
// for keys.
func entries(check func(key string, value any) error, read reader[string]) reader[map[string]string] {
	return func(s *section, name string, raw any) (map[string]string, bool) {
		table, ok := typed[map[string]any]("a table")(s, name, raw)
		values := map[string]string{}
		for _, key := range slices.Sorted(maps.Keys(table)) {
			path := join(name, key)
			if err := check(key, table[key]); err != nil {
				s.refuse(path, "%v", err)
			} else if value, ok := read(s, path, table[key]); ok {
				values[key] = value
			}
		}
		return values, ok
	}
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
