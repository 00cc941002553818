package near

import (
	"fmt"
	"slices"
	"strings"
)

// NoInterface returns the error for a missing interface, with the names there are, the likeliest first. Boxes' own ends come
// and go; nobody means them.
func NoInterface(name string, names []string) error {
	names = slices.DeleteFunc(names, func(n string) bool { return n == "lo" || strings.HasPrefix(n, "veth") })
	if len(names) == 0 {
		return fmt.Errorf("no interface %q: the host has none but lo", name)
	}
	best := slices.MinFunc(names, func(a, b string) int { return distance(name, a) - distance(name, b) })
	if distance(name, best) <= 2 {
		return fmt.Errorf("no interface %q, did you mean %q? there are %s", name, best, strings.Join(names, ", "))
	}
	return fmt.Errorf("no interface %q: there are %s", name, strings.Join(names, ", "))
}

// distance counts the edits of single bytes from a to b (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
