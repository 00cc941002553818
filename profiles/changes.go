package profiles

import (
	"cmp"
	"slices"
	"strings"
)

// Change is a key that has different values in two profiles.
type Change struct {
	Key string `json:"key"`
	Old string `json:"old"` // in TOML; "" where the value must not be shown
	New string `json:"new"`
	How string `json:"how"` // changed | added | removed; the last two for variables and secrets only
}

// String returns the change as "KEY: OLD -> NEW", or as "KEY: changed" without values.
func (c Change) String() string {
	if c.Old == "" && c.New == "" {
		return c.Key + ": " + c.How
	}
	return c.Key + ": " + c.Old + " -> " + c.New
}

// Changes returns the keys with different values in old and now, in the order of the format. Values of variables and
// paths of secrets are not shown. Changes of the values of variables are not noticed, as old may have come without the
// values. [build] does not count: the box is the same, whatever its image was built from.
func Changes(old, now Profile) ([]Change, error) {
	changes := named("systemd.environment", old.Systemd.Environment, now.Systemd.Environment, false)
	changes = append(changes, named("secrets", old.Secrets, now.Secrets, true)...)
	had, oldErr := old.values()
	has, nowErr := now.values()
	if err := cmp.Or(oldErr, nowErr); err != nil {
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

// named returns the entries of a table that were added or removed, and with values also the changed entries.
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

// values returns every key with its value in TOML, except the environment, the secrets and [build].
func (p Profile) values() (map[string]string, error) {
	p.Systemd.Environment, p.Secrets, p.Build = nil, nil, Build{}
	text, err := p.TOML()
	if err != nil {
		return nil, err
	}
	values, table := map[string]string{}, ""
	for line := range strings.Lines(string(text)) { // the encoder writes each value on a line
		name, value, pair := strings.Cut(strings.TrimSpace(line), " = ")
		if pair {
			values[join(table, name)] = value
		} else {
			table = strings.Trim(name, "[]")
		}
	}
	return values, nil
}

// inOrder returns a comparison by the order of the format. Entries of a table are ordered by name.
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
