package firewall

import (
	"encoding/json"
	"maps"
	"slices"
)

// node is a piece of what nft prints as JSON: a word or a number, a list, or an object. All are empty for null.
type node struct {
	word   string
	list   []node
	fields map[string]node
}

func (n *node) UnmarshalJSON(text []byte) error {
	switch text[0] {
	case '{':
		return json.Unmarshal(text, &n.fields)
	case '[':
		return json.Unmarshal(text, &n.list)
	case '"':
		return json.Unmarshal(text, &n.word)
	case 'n': // null
		return nil
	}
	n.word = string(text) // a number, true or false
	return nil
}

// at returns the field found by following names; the empty node where there is none.
func (n node) at(names ...string) node {
	for _, name := range names {
		n = n.fields[name]
	}
	return n
}

// has reports whether the node is an object with the field.
func (n node) has(name string) bool {
	_, ok := n.fields[name]
	return ok
}

// holds reports whether the node, or any object within, has the field.
func (n node) holds(name string) bool {
	within := slices.AppendSeq(slices.Clone(n.list), maps.Values(n.fields))
	return n.has(name) || slices.ContainsFunc(within, func(inner node) bool { return inner.holds(name) })
}
