package profiles

import (
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/pelletier/go-toml/v2/unstable"
)

// A spot is a place in a file.
type spot struct {
	line   int // from 1
	offset int // in bytes; distinguishes places on the same line
}

// locate finds every key, table and array element of a TOML text, by paths such as "network.ports[1]". The library that
// decodes profiles does not export the lines of keys and has no lines of array elements. Of a text that is not TOML,
// locate finds what is above the mistake.
func locate(text string) map[string]spot {
	for _, bom := range []string{"\xef\xbb\xbf", "\xff\xfe", "\xfe\xff"} {
		if rest, ok := strings.CutPrefix(text, bom); ok { // the decoding library skips byte order marks too
			text = strings.Repeat(" ", len(bom)) + rest
		}
	}
	l := locator{text: text, here: spot{line: 1}, spots: map[string]spot{}, elements: map[string]int{}}
	l.parser.Reset([]byte(text))
	table := ""
	for l.parser.NextExpression() {
		if e := l.parser.Expression(); e.Kind == unstable.KeyValue {
			l.pair(table, e)
		} else {
			table = l.header(e)
		}
	}
	return l.spots
}

// A locator walks over a TOML text once.
type locator struct {
	parser   unstable.Parser
	text     string
	here     spot
	spots    map[string]spot
	elements map[string]int // number of [[headers]] so far, by path
}

// header reads [a.b] or [[a.b]] and returns the path of the table. Below an array of tables the path leads into the
// last element.
func (l *locator) header(n *unstable.Node) string {
	bracket := l.advance(int(n.Child().Raw.Offset) - 1)
	path := ""
	for key := n.Key(); key.Next(); {
		path = l.key(path, key.Node())
		if many := l.elements[path]; many > 0 && !key.IsLast() {
			path = at(path, many-1)
		}
	}
	if n.Kind == unstable.Table {
		return path
	}
	element := at(path, l.elements[path])
	l.elements[path]++
	l.mark(element, bracket)
	return element
}

// pair reads key = value.
func (l *locator) pair(path string, n *unstable.Node) {
	for key := n.Key(); key.Next(); {
		path = l.key(path, key.Node())
	}
	l.next()
	l.value(path, n.Value())
}

// key reads a part of a dotted key and returns the path with the part.
func (l *locator) key(path string, n *unstable.Node) string {
	path = join(path, string(n.Data))
	l.mark(path, l.advance(int(n.Raw.Offset)))
	l.advance(l.here.offset + int(n.Raw.Length))
	return path
}

// value reads the value that begins here.
func (l *locator) value(path string, n *unstable.Node) {
	if n.Kind != unstable.Array && n.Kind != unstable.InlineTable {
		l.advance(l.here.offset + int(n.Raw.Length))
		return
	}
	l.advance(l.here.offset + 1) // the bracket
	i := 0
	for child := n.Children(); child.Next(); i++ {
		if n.Kind == unstable.InlineTable {
			l.pair(path, child.Node())
			continue
		}
		element := at(path, i)
		l.mark(element, l.next())
		l.value(element, child.Node())
	}
}

// gap returns the length of what stands at the beginning of text between two values, or between a key and its value.
func gap(text string) int {
	rest := strings.TrimLeft(text, " \t\r\n\f=,]}")
	for strings.HasPrefix(rest, "#") {
		_, rest, _ = strings.Cut(rest, "\n")
		rest = strings.TrimLeft(rest, " \t\r\n\f=,]}")
	}
	return len(text) - len(rest)
}

// next advances to the next value. The parser has no places of arrays.
func (l *locator) next() spot {
	return l.advance(l.here.offset + gap(l.text[l.here.offset:]))
}

// advance moves on to an offset and counts lines.
func (l *locator) advance(offset int) spot {
	l.here.line += strings.Count(l.text[l.here.offset:offset], "\n")
	l.here.offset = offset
	return l.here
}

// mark records a path. The first place of a path is kept.
func (l *locator) mark(path string, at spot) {
	if _, ok := l.spots[path]; !ok {
		l.spots[path] = at
	}
}

// join appends a key to a path, quoted where TOML needs quotes.
func join(path, name string) string {
	name = toml.Key{name}.String()
	if path == "" {
		return name
	}
	return path + "." + name
}
