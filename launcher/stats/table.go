package stats

import (
	"cmp"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"boxrun/launcher/say"
)

// Sample is what boxes used at a moment.
type Sample struct {
	At    time.Time
	Boxes []Stats
}

// Table returns a header and a row for each box of now. The share of processors is that between the two samples; 100%
// is a whole processor.
func Table(before, now Sample) [][]string {
	rows := [][]string{{"NAME", "CPU%", "MEM", "LIMIT", "TASKS", "NET IN", "NET OUT", "READ", "WRITTEN"}}
	for _, s := range now.Boxes {
		name := s.Name
		switch {
		case s.State != "running":
			name += " (" + s.State + ")"
		case !s.Cgroup:
			name += " (no cgroup)"
		}
		rows = append(rows, []string{name, before.share(s, now.At), size(s.MemoryBytes), size(s.MemoryLimitBytes),
			count(s.Tasks), size(s.NetworkReceivedBytes), size(s.NetworkSentBytes),
			size(s.DiskReadBytes), size(s.DiskWrittenBytes)})
	}
	return rows
}

// share returns the processor time a box used since the sample, "-" where the host counts none or the box is another by
// now.
func (s Sample) share(now Stats, at time.Time) string {
	for _, b := range s.Boxes {
		if b.Name == now.Name && b.Started.Equal(now.Started) && b.CPUSeconds != nil && now.CPUSeconds != nil && at.After(s.At) {
			return fmt.Sprintf("%.1f%%", 100*max(0, *now.CPUSeconds-*b.CPUSeconds)/at.Sub(s.At).Seconds())
		}
	}
	return "-"
}

func count(n *uint64) string {
	if n == nil {
		return "-"
	}
	return fmt.Sprint(*n)
}

func size(n *uint64) string {
	if n == nil {
		return "-"
	}
	return say.Bytes(*n)
}

// Screen returns rows as lines that fit a terminal, each ending with a clear to the end of the line. Rows that do not
// fit are counted in the last line.
func Screen(rows [][]string, width, height int) []string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, row := range say.Fit(rows, 2, cmp.Or(width, 80)) {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	_ = w.Flush() // cannot fail: a strings.Builder takes all
	lines := strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n")
	if most := max(2, cmp.Or(height, 24)-1); len(lines) > most {
		lines = append(lines[:most-1:most-1], fmt.Sprintf("and %d more", len(lines)-most+1))
	}
	for i := range lines {
		lines[i] += "\x1b[K"
	}
	return lines
}
