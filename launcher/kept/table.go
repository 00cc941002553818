package kept

import (
	"cmp"
	"fmt"
	"time"
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
		rows = append(rows, []string{i.Name, size(i.Bytes), age(time.Since(i.Written)), cmp.Or(i.UsedBy, "-"), i.Path})
	}
	return rows
}

// size returns bytes for a person.
func size(bytes int64) string {
	value, units := float64(bytes), "BKMGTPE"
	for value >= 1024 && len(units) > 1 {
		value, units = value/1024, units[1:]
	}
	return fmt.Sprintf("%.0f%c", value, units[0])
}

// age returns a time passed for a person, in the largest unit with a count of two or more.
func age(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds ago", max(0, d/time.Second))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm ago", d/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%dh ago", d/time.Hour)
	}
	return fmt.Sprintf("%dd ago", d/day)
}
