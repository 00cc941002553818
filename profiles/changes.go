package profiles

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// Change is a key with another value in one profile than in another.
type Change struct {
	Key string `json:"key"`
	Old string `json:"old"` // in TOML; "" where the value is not to be shown
	New string `json:"new"`
	How string `json:"how"` // changed | added | removed; the last two are for what has a name of its own: a variable, a secret
}

// String gives the change as "KEY: OLD -> NEW", or without values as "KEY: changed".
func (c Change) String() string {
	if c.Old == "" && c.New == "" {
		return c.Key + ": " + c.How
	}
	return c.Key + ": " + c.Old + " -> " + c.New
}

// Changes gives the keys in which now differs from old, in the order of the format. Values of variables and the places of
// secrets are not told. Where the values of variables were taken out of old, Changes cannot tell whether they differ; and
// [build] does not count, as the box is the same whatever its image was built from.
func Changes(old, now Profile) ([]Change, error) {
	changes := named("systemd.environment", old.Systemd.Environment, now.Systemd.Environment, false)
	changes = append(changes, named("secrets", old.Secrets, now.Secrets, true)...)
	had, err := old.values()
	if err != nil {
		return nil, err
	}
	has, err := now.values()
	if err != nil {
		return nil, err
	}
	for key, value := range has {
		if had[key] != value {
			changes = append(changes, Change{Key: key, Old: had[key], New: value, How: "changed"})
		}
	}
	slices.SortFunc(changes, inOrder())
	return changes, nil
}

// named gives the entries of a table that were added and removed, and with values those that have another value.
func named(table string, old, now map[string]string, values bool) []Change {
	var changes []Change
	for name, value := range now {
		was, had := old[name]
		switch {
		case !had:
			changes = append(changes, Change{Key: join(table, name), How: "added"})
		case values && was != value:
			changes = append(changes, Change{Key: join(table, name), How: "changed"})
		}
	}
	for name := range old {
		if _, has := now[name]; !has {
			changes = append(changes, Change{Key: join(table, name), How: "removed"})
		}
	}
	return changes
}

// values gives every key with its value in TOML, but for those that named and Changes are about.
func (p Profile) values() (map[string]string, error) {
	p.Systemd.Environment, p.Secrets, p.Build = nil, nil, Build{}
	text, err := p.TOML()
	if err != nil {
		return nil, err
	}
	raw := map[string]any{}
	if err := toml.Unmarshal(text, &raw); err != nil {
		return nil, fmt.Errorf("reading profile %s again: %w", p.Name, err)
	}
	values := map[string]string{}
	flatten(values, "", raw)
	return values, nil
}

func flatten(into map[string]string, table string, raw map[string]any) {
	for name, value := range raw {
		if inner, ok := value.(map[string]any); ok {
			flatten(into, join(table, name), inner)
			continue
		}
		into[join(table, name)] = literal(value)
	}
}

// literal gives a value as TOML has it.
func literal(value any) string {
	var b bytes.Buffer
	if err := toml.NewEncoder(&b).Encode(map[string]any{"v": value}); err != nil {
		return fmt.Sprint(value)
	}
	return strings.TrimSpace(strings.TrimPrefix(b.String(), "v = "))
}

// inOrder gives the order of the format; what has a name of its own comes by that.
func inOrder() func(a, b Change) int {
	places := map[string]int{}
	for i, e := range Reference() {
		places[e.Key] = i
	}
	place := func(key string) int {
		for {
			if i, ok := places[key]; ok || key == "" {
				return i
			}
			key = key[:max(0, strings.LastIndexByte(key, '.'))]
		}
	}
	return func(a, b Change) int {
		if a, b := place(a.Key), place(b.Key); a != b {
			return a - b
		}
		return strings.Compare(a.Key, b.Key)
	}
}
