package rows

import (
	"fmt"
	"strconv"
	"time"

	"boxrun/launcher"
	"boxrun/launcher/limits"
	"boxrun/launcher/say"
)

// usageLines returns a line for memory, CPU and tasks of a running box: the use of the whole box, and its limit. A box
// that does not run has no lines.
func usageLines(d launcher.Detail) []string {
	if d.PID == 0 {
		return nil
	}
	lines := []string{"memory " + shownMemory(d.Usage), "cpu    " + shownCPU(d.Usage), "tasks  " + shownTasks(d.Usage)}
	if d.Limits.Memory > 0 {
		lines[0] += " of " + d.Limits.Memory.String()
	}
	if d.Limits.CPUs > 0 {
		lines[1] += fmt.Sprintf(", at most %v CPUs at a time", d.Limits.CPUs)
	}
	if d.Limits.PIDs > 0 {
		lines[2] += fmt.Sprintf(" of %d", d.Limits.PIDs)
	}
	return lines
}

// shownMemory returns an amount of memory; "-" where the host does not count memory.
func shownMemory(u limits.Usage) string {
	if u.Memory == 0 {
		return "-"
	}
	return say.Bytes(u.Memory)
}

// shownCPU returns the CPU time used by a box, as in "1m2.3s"; "-" for none.
func shownCPU(u limits.Usage) string {
	switch used := time.Duration(u.CPU * float64(time.Second)); {
	case used == 0:
		return "-"
	case used < time.Second:
		return used.Round(time.Millisecond).String()
	default:
		return used.Round(100 * time.Millisecond).String()
	}
}

func shownTasks(u limits.Usage) string {
	if u.Tasks == 0 {
		return "-"
	}
	return strconv.Itoa(u.Tasks)
}
