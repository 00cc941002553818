package profiles

import (
	"net/netip"
	"reflect"
	"regexp"
	"strings"
	"time"

	"boxrun/profiles/amount"
	"boxrun/profiles/port"
)

// Entry describes a key of the format, or a table of keys.
type Entry struct {
	Key     string // such as "network.ports"; of a table "network"
	Type    string // such as "list of strings"; of a table "table"
	Default string // in TOML; "" for a table, and for image, the only key without a default
	About   string // the purpose, in a paragraph; may be "" for a table
}

// Reference describes the whole format, in the order of the template. Keys and types come from Profile, text and
// defaults from the template.
func Reference() []Entry {
	types := map[string]string{}
	collectTypes(types, reflect.TypeFor[Profile](), "")
	return parseTemplate(types)
}

var (
	templateTable = regexp.MustCompile(`^\[([a-z_]+)\]$`)
	templateKey   = regexp.MustCompile(`^(#?)([a-z_0-9]+) = (.*)$`)
)

// parseTemplate reads the template. A comment describes the table or key that follows.
func parseTemplate(types map[string]string) []Entry {
	var entries []Entry
	var about []string
	table := ""
	for line := range strings.Lines(template) {
		line = strings.TrimSpace(line)
		if comment, ok := strings.CutPrefix(line, "# "); ok {
			about = append(about, comment)
			continue
		}
		e := Entry{About: strings.Join(about, " ")}
		about = nil
		if m := templateTable.FindStringSubmatch(line); m != nil {
			table = m[1] + "."
			e.Key = m[1]
		} else if m := templateKey.FindStringSubmatch(line); m != nil {
			e.Key = table + m[2]
			if m[1] == "#" {
				e.Default = m[3]
			}
		} else {
			continue
		}
		e.Type = types[e.Key]
		entries = append(entries, e)
	}
	return entries
}

// collectTypes records the type in words of each key of s, below table.
func collectTypes(types map[string]string, s reflect.Type, table string) {
	for f := range s.Fields() {
		tag := f.Tag.Get("toml")
		if tag == "-" {
			continue
		}
		types[table+tag] = typeInWords(f.Type)
		if types[table+tag] == "table" {
			collectTypes(types, f.Type, tag+".")
		}
	}
}

func typeInWords(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[time.Duration]():
		return "duration"
	case reflect.TypeFor[netip.Prefix](), reflect.TypeFor[netip.Addr](), reflect.TypeFor[port.Port](), reflect.TypeFor[Bind](),
		reflect.TypeFor[amount.Bytes]():
		return "string"
	}
	switch t.Kind() {
	case reflect.Struct:
		return "table"
	case reflect.Map:
		return "table of " + plural(typeInWords(t.Elem()))
	case reflect.Slice:
		return "list of " + plural(typeInWords(t.Elem()))
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "boolean"
	}
	return "number"
}

func plural(words string) string {
	if rest, ok := strings.CutPrefix(words, "list"); ok {
		return "lists" + rest
	}
	return words + "s"
}
