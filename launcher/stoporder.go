package launcher

import (
	"slices"

	"boxrun/launcher/box"
	"boxrun/profiles"
)

// StopOrder sorts what names boxes, as Search.Find takes it, so that each box comes before those it depends on, directly or
// not, by the profiles they were started with; else the order stays. What has no record, or one that cannot be read,
// depends on nothing.
func (l *Launcher) StopOrder(args []string) []string {
	boxes, _ := l.All() // beside an error it gives what could be read
	return stopOrder(boxes, args)
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

// withDependents adds to order what depends on the box named, and then it, but what is there already. way has the names
// that led to it: where profiles were edited meanwhile, boxes may depend on each other in a circle.
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
