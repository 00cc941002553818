package launcher

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Usage is what a whole box takes of the host: its services, its init, and what is run in it from outside. What the host
// does not count is 0.
type Usage struct {
	Memory uint64        `json:"memory"` // bytes, with the files it has cached: what its limit is held against
	CPU    time.Duration `json:"cpu"`    // of all processors since it started
	Tasks  int           `json:"tasks"`  // processes and threads
}

// usage reads from its cgroup what a box that runs uses. Apptainer's own numbers are those of init alone (InstanceStats).
func (b *Box) usage() Usage {
	if b.Cgroup == "" {
		return Usage{}
	}
	return Usage{
		Memory: readCount(b.Cgroup, "memory.current"),
		CPU:    time.Duration(cpuMicroseconds(b.Cgroup)) * time.Microsecond,
		Tasks:  int(readCount(b.Cgroup, "pids.current")),
	}
}

// readCount gives the number that a file of a cgroup holds, 0 where there is none.
func readCount(cgroup, file string) uint64 {
	text, err := os.ReadFile(filepath.Join(cgroup, file))
	if err != nil {
		return 0
	}
	return number(strings.TrimSpace(string(text)))
}

// cpuMicroseconds gives the time that a cgroup has had. The kernel counts it with or without the cpu controller.
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

// number reads what the kernel wrote; 0 where that is no number.
func number(text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0
	}
	return n
}
