package stats

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"boxrun/launcher/box"
	"boxrun/launcher/process"
)

// noteUncounted tells a person why the table has no numbers in some columns.
func (s Sample) noteUncounted(store *box.Store) {
	have := "which has version 1 or a mixture, and " + process.UnifiedHint
	if process.UnifiedCgroups() {
		text, _ := os.ReadFile(filepath.Join(process.CgroupMount(), "cgroup.controllers")) // no file, no controllers
		have = fmt.Sprintf("whose cgroup.controllers has %q", strings.TrimSpace(string(text)))
	}
	if text := s.uncounted(have); text != "" {
		store.Note(text)
	}
}

// uncounted says which columns lack numbers of boxes that run in cgroups of their own, and for want of which
// controllers; "" for none. have describes the cgroups of the host.
func (s Sample) uncounted(have string) string {
	var boxes, columns, controllers []string
	missing := func(of Stats, number *uint64, column, controller string) {
		if number != nil {
			return
		}
		boxes = append(boxes, of.Name)
		if !slices.Contains(columns, column) {
			columns, controllers = append(columns, column), append(controllers, controller)
		}
	}
	for _, b := range s.Boxes {
		if b.State == "running" && b.Cgroup {
			missing(b, b.MemoryBytes, "MEM", "memory")
			missing(b, b.Tasks, "TASKS", "pids")
			missing(b, b.DiskReadBytes, "READ and WRITTEN", "io")
		}
	}
	if len(boxes) == 0 {
		return ""
	}
	return fmt.Sprintf("%s: no %s: the cgroup lacks the controllers %s of this host, %s", strings.Join(slices.Compact(boxes), ", "),
		strings.Join(columns, ", "), strings.Join(controllers, ", "), have)
}
