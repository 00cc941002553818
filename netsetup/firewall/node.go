package firewall

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
)

// node is a piece of what nft prints as JSON: a word or a number, a list, or an object. All are empty for null.
type node struct {
	word   string
	list   []node
	fields map[string]node
}

// UnmarshalJSON reads the text once, and not again for each level.
func (n *node) UnmarshalJSON(text []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	err := decoder.Decode(&value)
	*n = nodeOf(value)
	return err
}

// nodeOf returns the node of a value of package json.
func nodeOf(value any) node {
	switch value := value.(type) {
	case string:
		return node{word: value}
	case json.Number:
		return node{word: value.String()}
	case bool:
		return node{word: strconv.FormatBool(value)}
	case []any:
		list := make([]node, len(value))
		for i, v := range value {
			list[i] = nodeOf(v)
		}
		return node{list: list}
	case map[string]any:
		fields := make(map[string]node, len(value))
		for name, v := range value {
			fields[name] = nodeOf(v)
		}
		return node{fields: fields}
	}
	return node{} // null
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
