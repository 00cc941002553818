package launcher

import (
	"fmt"
	"slices"
	"strings"

	"boxrun/launcher/box"
	"boxrun/launcher/list"
	"boxrun/profiles"
)

// StopOrder sorts args, names of boxes as Search.Find takes them, so each box comes before the boxes it depends on,
// directly or indirectly. Otherwise the order stays. The profiles at the start of the boxes decide. A box without a
// readable record depends on nothing.
func (l *Launcher) StopOrder(args []string) []string {
	boxes, _ := l.All() // All returns the readable boxes beside an error
	return stopOrder(boxes, args)
}

// Dependents returns a function for the boxes to stop before a named box: those before it in order, as StopOrder returns
// it, that depend on the box directly or indirectly.
func (l *Launcher) Dependents(order []string) func(name string) []string {
	boxes, _ := l.All() // All returns the readable boxes beside an error
	return func(name string) []string {
		name = profiles.BoxName(name)
		var before []string
		for _, arg := range order {
			if profiles.BoxName(arg) == name {
				break // in a circle of edited profiles the first of the order is the first to go
			}
			before = append(before, profiles.BoxName(arg))
		}
		dependents := withDependents(nil, boxes, name, nil)
		return slices.DeleteFunc(before, func(b string) bool { return !slices.Contains(dependents, b) })
	}
}

// Bereft returns a line for each box of args that boxes which are up, and not among args, depend on.
func (l *Launcher) Bereft(args []string) []string {
	boxes, _ := l.All() // All returns the readable boxes beside an error
	going := list.Map(args, profiles.BoxName)
	var lines []string
	for _, name := range going {
		stay := slices.DeleteFunc(withDependents(nil, boxes, name, nil), func(dependent string) bool {
			i := slices.IndexFunc(boxes, func(b *box.Box) bool { return b.Name == dependent })
			return slices.Contains(going, dependent) || i < 0 || !boxes[i].Alive()
		})
		if len(stay) > 0 {
			lines = append(lines, fmt.Sprintf("%s: is needed by what stays up: %s", name, strings.Join(stay, ", ")))
		}
	}
	return lines
}

func stopOrder(boxes []*box.Box, args []string) []string {
	var order []string
	for _, arg := range args {
		order = withDependents(order, boxes, profiles.BoxName(arg), nil)
	}
	sorted := slices.Clone(args)
	slices.SortStableFunc(sorted, func(a, b string) int {
		return slices.Index(order, profiles.BoxName(a)) - slices.Index(order, profiles.BoxName(b))
	})
	return sorted
}

// withDependents adds the boxes depending on the named box to order, and then the named box itself. Boxes already in
// order are skipped. way holds the names leading to this call: after edits of profiles, boxes may depend on each other
// in a circle.
func withDependents(order []string, boxes []*box.Box, name string, way []string) []string {
	if slices.Contains(order, name) || slices.Contains(way, name) {
		return order
	}
	way = append(slices.Clone(way), name)
	for _, b := range boxes {
		needs := func(arg string) bool { return profiles.BoxName(arg) == name }
		if slices.ContainsFunc(b.Profile.DependsOn, needs) {
			order = withDependents(order, boxes, b.Name, way)
		}
	}
	return append(order, name)
}
