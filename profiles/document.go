package profiles

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A document is a file during decoding.
type document struct {
	file     string
	dir      string // start of relative paths; "." for a built-in profile
	instance string
	spots    map[string]spot
	sections []*section
	found    []fault
	failed   map[string]bool // paths with a fault
}

// A fault is an Error with the offset needed to sort errors.
type fault struct {
	Error
	offset int
}

// refuse records what is wrong with the value at path.
func (d *document) refuse(path, format string, args ...any) {
	at := d.spot(path)
	d.failed[path] = true
	d.found = append(d.found, fault{
		Error{File: d.file, Line: at.line, Key: path, Message: fmt.Sprintf(format, args...)}, at.offset,
	})
}

// spot returns the place of path in the text, or the place of the closest table or list around path. A path without any
// place is the zero spot.
func (d *document) spot(path string) spot {
	for path != "" {
		if at, ok := d.spots[path]; ok {
			return at
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return spot{}
}

// errors returns all faults in the order of the text.
func (d *document) errors() Errors {
	slices.SortStableFunc(d.found, func(a, b fault) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.offset, b.offset)) // faults without a line come first
	})
	all := make(Errors, len(d.found))
	for i := range d.found {
		all[i] = d.found[i].Error
	}
	return all
}

// section begins the decoding of a table. The format consists of the tables and keys asked for.
func (d *document) section(path string, raw map[string]any) *section {
	s := &section{doc: d, path: path, raw: raw}
	d.sections = append(d.sections, s)
	return s
}

// refuseUnknown refuses all keys that nobody asked for.
func (d *document) refuseUnknown() {
	var all []string
	for _, s := range d.sections {
		for _, name := range s.known {
			all = append(all, join(s.path, name))
		}
	}
	for _, s := range d.sections {
		for _, name := range slices.Sorted(maps.Keys(s.raw)) {
			if !slices.Contains(s.known, name) {
				d.refuse(join(s.path, name), "%s", unknown(name, s, all))
			}
		}
	}
}

// unknown says that s has no key called name, with a guess at what was meant: a similar key of s, or a key of this name
// in another table.
func unknown(name string, s *section, all []string) string {
	meant := ""
	if near := nearest(name, s.known); near != "" {
		meant = join(s.path, near)
	}
	for _, path := range all {
		if meant == "" && (path == name || strings.HasSuffix(path, "."+name)) {
			meant = path
		}
	}
	switch {
	case meant == "":
		return "unknown key"
	case !strings.Contains(meant, ".") && s.path != "":
		return fmt.Sprintf("unknown key, did you mean %q above the first [table]?", meant)
	case strings.HasPrefix(meant, s.path+"."):
		meant = strings.TrimPrefix(meant, s.path+".")
	}
	return fmt.Sprintf("unknown key, did you mean %q?", meant)
}
