package firewall

import (
	"slices"
	"strconv"
	"strings"
)

// span is a range of ports, both ends included.
type span struct{ first, last int }

// parseSpans reads "80", "80:90" and lists of both. What cannot be read selects no port. The spans are never nil.
func parseSpans(value string) []span {
	spans := []span{}
	for _, part := range strings.Split(value, ",") {
		first, last, isRange := strings.Cut(part, ":")
		if !isRange {
			last = first
		}
		a, errA := strconv.Atoi(first)
		b, errB := strconv.Atoi(last)
		if errA == nil && errB == nil {
			spans = append(spans, span{a, b})
		}
	}
	return spans
}

// allBut returns the ports outside spans.
func allBut(spans []span) []span {
	rest := []span{{0, 65535}}
	for _, s := range spans {
		rest = intersect(rest, []span{{0, s.first - 1}, {s.last + 1, 65535}})
	}
	return rest
}

// intersect returns the ports in both lists. The spans are never nil.
func intersect(a, b []span) []span {
	both := []span{}
	for _, x := range a {
		for _, y := range b {
			if s := (span{max(x.first, y.first), min(x.last, y.last)}); s.first <= s.last {
				both = append(both, s)
			}
		}
	}
	return both
}

// portAmong reports whether a port is in "80", "80:90" or a list of both.
func portAmong(value string, port uint16) bool {
	return slices.ContainsFunc(parseSpans(value), func(s span) bool { return s.first <= int(port) && int(port) <= s.last })
}
