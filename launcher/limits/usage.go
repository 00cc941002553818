package limits

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"boxrun/launcher/box"
)

// Usage is the host's resources used by a whole box: its services, its init, and commands run in the box from outside.
// A value the host does not count is 0.
type Usage struct {
	Memory uint64        `json:"memory"` // bytes, cached files included: the value compared with the limit
	CPU    time.Duration `json:"cpu"`    // time on all processors since the box started
	Tasks  int           `json:"tasks"`  // processes and threads
}

// UsageOf reads a running box's usage from its cgroup; zero without a cgroup. Apptainer's own numbers count init alone
// (InstanceStats).
func UsageOf(b *box.Box) Usage {
	if b.Cgroup == "" {
		return Usage{}
	}
	return Usage{
		Memory: readCount(b.Cgroup, "memory.current"),
		CPU:    time.Duration(cpuMicroseconds(b.Cgroup)) * time.Microsecond,
		Tasks:  int(readCount(b.Cgroup, "pids.current")),
	}
}

// readCount returns the number in a file of a cgroup; 0 if there is none.
func readCount(cgroup, file string) uint64 {
	text, err := os.ReadFile(filepath.Join(cgroup, file))
	if err != nil {
		return 0
	}
	return number(strings.TrimSpace(string(text)))
}

// cpuMicroseconds returns the CPU time used by a cgroup. The kernel counts this time with or without the cpu
// controller.
func cpuMicroseconds(cgroup string) uint64 {
	text, err := os.ReadFile(filepath.Join(cgroup, "cpu.stat"))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "usage_usec "); ok {
			return number(strings.TrimSpace(value))
		}
	}
	return 0
}

// number parses a number written by the kernel; 0 if text is no number.
func number(text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0
	}
	return n
}
