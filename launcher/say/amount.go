package say

import (
	"fmt"
	"time"
)

// Bytes returns an amount in the largest unit of 1024: with one decimal below ten, and fewer than four digits up to the last
// unit.
func Bytes(n uint64) string {
	value, units := float64(n), "BKMGTP"
	for value >= 1023.5 && len(units) > 1 {
		value, units = value/1024, units[1:]
	}
	if value >= 10 || units[0] == 'B' {
		return fmt.Sprintf("%.0f%c", value, units[0])
	}
	return fmt.Sprintf("%.1f%c", value, units[0])
}

// Span returns a time in the largest unit with a count of two or more.
func Span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/day)
}
