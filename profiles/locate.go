package profiles

import (
	"fmt"
	"strings"

	"github.com/BurntSushi/toml"
)

// A spot is a place in a file.
type spot struct {
	line   int // from 1
	offset int // in bytes; distinguishes places on the same line
}

// locate finds every key, table and array element of a TOML text, by paths such as "network.ports[1]". The toml library
// does not export the lines of keys and has no lines of array elements. The text must have been parsed without an error
// before. For any other text the result is arbitrary, but locate always ends.
func locate(text string) map[string]spot {
	s := scanner{text: text, line: 1, spots: map[string]spot{}, elements: map[string]int{}}
	for _, bom := range []string{"\xef\xbb\xbf", "\xff\xfe", "\xfe\xff"} {
		if strings.HasPrefix(text, bom) { // the library skips byte order marks too
			s.pos = len(bom)
		}
	}
	s.document()
	return s.spots
}

// A scanner walks over a TOML text once.
type scanner struct {
	text     string
	pos      int
	line     int
	spots    map[string]spot
	elements map[string]int // number of [[headers]] so far, by path
}

func (s *scanner) document() {
	table := ""
	for s.blank(); !s.done(); s.blank() {
		if s.peek() == '[' {
			table = s.header()
		} else {
			s.pair(table)
		}
	}
}

// header reads [a.b] or [[a.b]] and returns the path of the table.
func (s *scanner) header() string {
	at, many := s.here(), strings.HasPrefix(s.text[s.pos:], "[[")
	s.skip("[")
	keys := s.keys()
	s.skip("]")
	path := s.resolve(keys)
	s.mark(path, at)
	if !many {
		return path
	}
	element := fmt.Sprintf("%s[%d]", path, s.elements[path])
	s.elements[path]++
	s.mark(element, at)
	return element
}

// resolve joins the keys of a header to a path. Below an array of tables the path leads into the last element.
func (s *scanner) resolve(keys []key) string {
	path := ""
	for i, k := range keys {
		path = join(path, k.name)
		if n := s.elements[path]; n > 0 && i < len(keys)-1 {
			path = fmt.Sprintf("%s[%d]", path, n-1)
		}
		s.mark(path, k.spot)
	}
	return path
}

// pair reads key = value.
func (s *scanner) pair(table string) {
	start := s.pos
	path := table
	for _, k := range s.keys() {
		path = join(path, k.name)
		s.mark(path, k.spot)
	}
	s.skip("=")
	s.value(path)
	if s.pos == start {
		s.advance(1) // not TOML: always make progress
	}
}

// A key is a part of a dotted key.
type key struct {
	name string
	spot spot
}

// keys reads a dotted key.
func (s *scanner) keys() []key {
	var keys []key
	for {
		s.space()
		at := s.here()
		name, ok := s.name()
		if !ok {
			return keys
		}
		keys = append(keys, key{name, at})
		s.space()
		if s.peek() != '.' {
			return keys
		}
		s.advance(1)
	}
}

// name reads a part of a dotted key, bare or in quotes.
func (s *scanner) name() (string, bool) {
	if c := s.peek(); c == '"' || c == '\'' {
		return unquote(s.quoted()), true
	}
	rest := s.text[s.pos:]
	end := strings.IndexAny(rest, " \t\r\n.=[]{},#\"'")
	if end < 0 {
		end = len(rest)
	}
	s.advance(end)
	return rest[:end], end > 0
}

// unquote returns the string that a TOML string literal stands for. The toml library decodes the escapes. An unfinished
// literal is returned as it is.
func unquote(literal string) string {
	var v struct{ K string }
	if _, err := toml.Decode("k = "+literal, &v); err != nil {
		return literal // an unfinished literal, in a text that is not TOML
	}
	return v.K
}

// value reads the value after an equals sign.
func (s *scanner) value(path string) {
	s.space()
	switch s.peek() {
	case '[':
		s.array(path)
	case '{':
		s.inline(path)
	case '"', '\'':
		s.quoted()
	default:
		s.advance(len(until(s.text[s.pos:], ",]}#\r\n")))
	}
}

// array reads [a, b]. Newlines and comments may stand anywhere.
func (s *scanner) array(path string) {
	s.advance(1)
	for i := 0; s.element(); i++ {
		element, start := fmt.Sprintf("%s[%d]", path, i), s.pos
		s.mark(element, s.here())
		s.value(element)
		if s.pos == start {
			return
		}
	}
}

// inline reads {a = 1, b.c = 2}. TOML 1.1 allows newlines and comments here too.
func (s *scanner) inline(path string) {
	s.advance(1)
	for s.element() {
		s.pair(path)
	}
}

// element advances to the next element of an array or inline table and returns true, or advances past the end and
// returns false.
func (s *scanner) element() bool {
	s.blank()
	for s.peek() == ',' {
		s.advance(1)
		s.blank()
	}
	if c := s.peek(); c == ']' || c == '}' {
		s.advance(1)
		return false
	}
	return !s.done()
}

// quoted reads a string of any of the four kinds and returns the string with its quotes.
func (s *scanner) quoted() string {
	start, quote := s.pos, s.text[s.pos:s.pos+1]
	if long := strings.Repeat(quote, 3); strings.HasPrefix(s.text[s.pos:], long) {
		quote = long
	}
	s.advance(len(quote))
	for !s.done() && !strings.HasPrefix(s.text[s.pos:], quote) {
		if s.peek() == '\\' && quote[0] == '"' {
			s.advance(1) // the backslash; the next step skips the escaped character
		}
		s.advance(1)
	}
	s.advance(len(quote))
	for len(quote) == 3 && s.peek() == quote[0] {
		s.advance(1) // up to two quotes may stand before the closing three
	}
	return s.text[start:s.pos]
}

// blank skips white space, newlines and comments.
func (s *scanner) blank() {
	for !s.done() {
		switch s.peek() {
		case ' ', '\t', '\r', '\n':
			s.advance(1)
		case '#':
			s.advance(len(until(s.text[s.pos:], "\n")))
		default:
			return
		}
	}
}

func (s *scanner) space() { s.skip(" \t") }

// skip advances over any of chars.
func (s *scanner) skip(chars string) {
	for !s.done() && strings.IndexByte(chars, s.peek()) >= 0 {
		s.advance(1)
	}
}

// advance moves on by n bytes, at most to the end, and counts lines.
func (s *scanner) advance(n int) {
	end := min(s.pos+n, len(s.text))
	s.line += strings.Count(s.text[s.pos:end], "\n")
	s.pos = end
}

// peek returns the next byte, 0 at the end.
func (s *scanner) peek() byte {
	if s.done() {
		return 0
	}
	return s.text[s.pos]
}

func (s *scanner) done() bool { return s.pos >= len(s.text) }

func (s *scanner) here() spot { return spot{s.line, s.pos} }

// mark records a path. The first place of a path is kept.
func (s *scanner) mark(path string, at spot) {
	if _, ok := s.spots[path]; !ok && path != "" {
		s.spots[path] = at
	}
}

// until returns the part of s before any of chars.
func until(s, chars string) string {
	if i := strings.IndexAny(s, chars); i >= 0 {
		return s[:i]
	}
	return s
}

// join appends a key to a path, quoted where TOML needs quotes.
func join(path, name string) string {
	name = toml.Key{name}.String()
	if path == "" {
		return name
	}
	return path + "." + name
}
