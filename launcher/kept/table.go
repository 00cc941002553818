package kept

import (
	"cmp"
	"time"

	"boxrun/launcher/say"
)

// Measured returns what Find does, with sizes and ages.
func (p Places) Measured(names []string) ([]Item, error) {
	items, err := p.Find(names)
	for i := range items {
		Measure(&items[i])
	}
	return items, err
}

// Table returns a header and a row for each item.
func Table(items []Item) [][]string {
	rows := [][]string{{"NAME", "SIZE", "WRITTEN", "USED BY", "PATH"}}
	for _, i := range items {
		rows = append(rows, []string{i.Name, say.Bytes(uint64(i.Bytes)), say.Span(max(0, time.Since(i.Written))) + " ago", cmp.Or(i.UsedBy, "-"), i.Path})
	}
	return rows
}
