package stats

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"boxrun/launcher/box"
	"boxrun/launcher/process"
	"boxrun/netsetup/dump"
)

// Stats is what a whole box uses: its services, its init, and commands run in the box from outside. A nil number is not
// counted by the host. Counters count from the start of the box.
type Stats struct {
	Name     string    `json:"name"`
	State    string    `json:"state"`
	Started  time.Time `json:"started,omitzero"`
	Restarts int       `json:"restarts"`
	Cgroup   bool      `json:"cgroup"` // false: the box has no cgroup of its own, and the host counts only its network

	CPUSeconds       *float64 `json:"cpu_seconds,omitempty"`
	MemoryBytes      *uint64  `json:"memory_bytes,omitempty"`       // cached files included
	MemoryLimitBytes *uint64  `json:"memory_limit_bytes,omitempty"` // nil: no limit
	Tasks            *uint64  `json:"tasks,omitempty"`              // processes and threads
	TasksLimit       *uint64  `json:"tasks_limit,omitempty"`

	DiskReadBytes        *uint64 `json:"disk_read_bytes,omitempty"`
	DiskWrittenBytes     *uint64 `json:"disk_written_bytes,omitempty"`
	NetworkReceivedBytes *uint64 `json:"network_received_bytes,omitempty"` // by the box
	NetworkSentBytes     *uint64 `json:"network_sent_bytes,omitempty"`
}

// Read returns what a box uses now. Of a box that does not run, only the name and the state are known. Network is
// counted at the host's end of the box's link: the box can neither change the counters nor add devices.
func Read(b *box.Box) Stats {
	s := Stats{Name: b.Name, State: b.State(), Started: b.Started, Restarts: b.Restarts}
	if !b.Alive() {
		return s
	}
	s.readCgroup(cgroupsOf(b))
	if b.Veth != "" {
		if sent, received, err := dump.Traffic(b.Veth); err == nil {
			s.NetworkReceivedBytes, s.NetworkSentBytes = &received, &sent
		}
	}
	return s
}

// cgroups are the directories in which the host counts what a box uses: of version 2, and of version 1 by controller.
// Older hosts have both.
type cgroups struct {
	v2 string
	v1 map[string]string
}

// cgroupsOf returns the cgroups of a running box.
func cgroupsOf(b *box.Box) cgroups {
	own, _ := os.ReadFile(process.ProcFile(b.Init.PID, "cgroup"))
	masters, _ := os.ReadFile(process.ProcFile(b.Master.PID, "cgroup"))
	return cgroups{b.Cgroup, v1Dirs("/sys/fs/cgroup", string(own), string(masters))}
}

// v1Dirs returns the directories of version 1, by controller, in a text of /proc/PID/cgroup. A cgroup that the box
// shares with its master, outside the box, is left out.
func v1Dirs(mount, own, masters string) map[string]string {
	dirs, outside := map[string]string{}, v1Paths(masters)
	for controller, path := range v1Paths(own) {
		if path, ok := process.OwnCgroup(path, []string{outside[controller]}); ok {
			dirs[controller] = filepath.Join(mount, controller, path)
		}
	}
	return dirs
}

// v1Paths returns the paths in lines NUMBER:CONTROLLER,...:PATH, by controller.
func v1Paths(text string) map[string]string {
	paths := map[string]string{}
	for line := range strings.Lines(text) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(parts) == 3 && parts[1] != "" {
			for controller := range strings.SplitSeq(parts[1], ",") {
				paths[controller] = parts[2]
			}
		}
	}
	return paths
}

// readCgroup reads what the cgroups of a box count.
func (s *Stats) readCgroup(c cgroups) {
	s.Cgroup = c.v2 != "" || len(c.v1) > 0
	s.CPUSeconds = seconds(c.number("cpu.stat", "usage_usec"), time.Microsecond)
	if s.CPUSeconds == nil {
		s.CPUSeconds = seconds(number(c.file("cpuacct", "cpuacct.usage"), ""), time.Nanosecond)
	}
	s.MemoryBytes = either(c.number("memory.current", ""), number(c.file("memory", "memory.usage_in_bytes"), ""))
	s.MemoryLimitBytes = either(c.number("memory.max", ""), number(c.file("memory", "memory.limit_in_bytes"), ""))
	if s.MemoryLimitBytes != nil && *s.MemoryLimitBytes >= 1<<62 { // version 1 has a number for no limit
		s.MemoryLimitBytes = nil
	}
	s.Tasks = either(c.number("pids.current", ""), number(c.file("pids", "pids.current"), ""))
	s.TasksLimit = either(c.number("pids.max", ""), number(c.file("pids", "pids.max"), ""))
	disk := read(c.v2, "io.stat")
	s.DiskReadBytes, s.DiskWrittenBytes = sum(disk, "rbytes="), sum(disk, "wbytes=")
	if disk == nil {
		disk = read(c.v1["blkio"], "blkio.throttle.io_service_bytes")
		s.DiskReadBytes, s.DiskWrittenBytes = sum(disk, "Read"), sum(disk, "Write")
	}
}

// file returns the words of a file of a controller of version 1.
func (c cgroups) file(controller, name string) []string { return read(c.v1[controller], name) }

// number returns the number behind a word in a file of version 2; the first number for no word.
func (c cgroups) number(name, word string) *uint64 { return number(read(c.v2, name), word) }

// read returns the words of a file of a cgroup; nil for no cgroup or file.
func read(dir, name string) []string {
	if dir == "" {
		return nil
	}
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return nil
	}
	return append([]string{}, strings.Fields(string(text))...)
}

// number returns the number behind a word, the first number for no word; nil for none.
func number(words []string, word string) *uint64 {
	for i, w := range words {
		if word != "" && (w != word || i+1 == len(words)) {
			continue
		}
		if word != "" {
			w = words[i+1]
		}
		n, err := strconv.ParseUint(w, 10, 64)
		if err != nil {
			return nil
		}
		return &n
	}
	return nil
}

// sum returns the sum of the numbers that follow a key; nil without a file. A key ends in "=", or is a word of its own.
func sum(words []string, key string) *uint64 {
	if words == nil {
		return nil
	}
	var total uint64
	for i, w := range words {
		text, ok := strings.CutPrefix(w, key)
		if ok && text == "" && i+1 < len(words) {
			text = words[i+1]
		}
		if n, err := strconv.ParseUint(text, 10, 64); ok && err == nil {
			total += n
		}
	}
	return &total
}

// either returns the first number that is counted.
func either(a, b *uint64) *uint64 {
	if a != nil {
		return a
	}
	return b
}

// seconds returns a number of units as seconds.
func seconds(n *uint64, unit time.Duration) *float64 {
	if n == nil {
		return nil
	}
	return new(float64(*n) / float64(time.Second/unit))
}
