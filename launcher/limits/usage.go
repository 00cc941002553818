package limits

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"boxrun/launcher/box"
	"boxrun/netsetup/small"
)

// Usage is the host's resources used by a whole box: its services, its init, and commands run in the box from outside.
// A value the host does not count is 0.
type Usage struct {
	Memory uint64  `json:"memory_bytes"` // cached files included: the value compared with the limit
	CPU    float64 `json:"cpu_seconds"`  // time on all processors since the box started
	Tasks  int     `json:"tasks"`        // processes and threads
}

// UsageOf reads a running box's usage from its cgroup; zero without a cgroup. Apptainer's own numbers count init alone
// (InstanceStats).
func UsageOf(b *box.Box) Usage {
	if b.Cgroup == "" {
		return Usage{}
	}
	return Usage{
		Memory: count(b.Cgroup, "memory.current", ""),
		CPU:    float64(count(b.Cgroup, "cpu.stat", "usage_usec")) / 1e6, // with or without a cpu controller
		Tasks:  int(count(b.Cgroup, "pids.current", "")),
	}
}

// count returns the number in a file of a cgroup: the first, or with a word the number after the word. count returns 0
// for a missing file or number.
func count(cgroup, file, word string) uint64 {
	text, _ := small.Read(filepath.Join(cgroup, file))
	words := strings.Fields(string(text))
	at := slices.Index(words, word) + 1 // 0: the word is not there, or none is asked for
	if at >= len(words) {
		return 0
	}
	n, err := strconv.ParseUint(words[at], 10, 64)
	if err != nil {
		return 0
	}
	return n
}
