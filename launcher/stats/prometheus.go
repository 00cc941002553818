package stats

import (
	"fmt"
	"strconv"
)

// metric is a metric of Prometheus: its name without the prefix, and its value of a box; nil for no sample.
type metric struct {
	name, kind, help string
	value            func(Stats) *float64
}

// metrics returns the metrics of boxes. Names and units are as Prometheus asks: base units, _total for counters.
func metrics() []metric {
	whole := func(of func(Stats) *uint64) func(Stats) *float64 {
		return func(s Stats) *float64 {
			if n := of(s); n != nil {
				return new(float64(*n))
			}
			return nil
		}
	}
	return []metric{
		{"up", "gauge", "Whether the box runs.", func(s Stats) *float64 {
			if s.State == "running" {
				return new(1.0)
			}
			return new(0.0)
		}},
		{"start_time_seconds", "gauge", "Start of the box since the epoch.",
			func(s Stats) *float64 { return new(float64(s.Started.UnixMilli()) / 1000) }},
		{"restarts_total", "counter", "Starts of the box by systemd since somebody brought the box up.",
			func(s Stats) *float64 { return new(float64(s.Restarts)) }},
		{"cpu_seconds_total", "counter", "Processor time of the box.", func(s Stats) *float64 { return s.CPUSeconds }},
		{"memory_bytes", "gauge", "Memory of the box, cached files included.",
			whole(func(s Stats) *uint64 { return s.MemoryBytes })},
		{"memory_limit_bytes", "gauge", "Limit of the memory of the box.",
			whole(func(s Stats) *uint64 { return s.MemoryLimitBytes })},
		{"tasks", "gauge", "Processes and threads in the box.", whole(func(s Stats) *uint64 { return s.Tasks })},
		{"tasks_limit", "gauge", "Limit of processes and threads in the box.",
			whole(func(s Stats) *uint64 { return s.TasksLimit })},
		{"disk_read_bytes_total", "counter", "Bytes read from disks by the box.",
			whole(func(s Stats) *uint64 { return s.DiskReadBytes })},
		{"disk_written_bytes_total", "counter", "Bytes written to disks by the box.",
			whole(func(s Stats) *uint64 { return s.DiskWrittenBytes })},
		{"network_receive_bytes_total", "counter", "Bytes received by the box.",
			whole(func(s Stats) *uint64 { return s.NetworkReceivedBytes })},
		{"network_transmit_bytes_total", "counter", "Bytes sent by the box.",
			whole(func(s Stats) *uint64 { return s.NetworkSentBytes })},
	}
}

// Prometheus returns the lines of Prometheus' exposition format, for the textfile collector of its node_exporter. A metric
// without a sample is left out.
func Prometheus(boxes []Stats) []string {
	var all []string
	for _, m := range metrics() {
		var samples []string
		for _, s := range boxes {
			if v := m.value(s); v != nil {
				samples = append(samples, fmt.Sprintf("boxrun_box_%s{box=%q} %s", m.name, s.Name, strconv.FormatFloat(*v, 'f', -1, 64)))
			}
		}
		if len(samples) > 0 {
			all = append(all, fmt.Sprintf("# HELP boxrun_box_%s %s", m.name, m.help), fmt.Sprintf("# TYPE boxrun_box_%s %s", m.name, m.kind))
			all = append(all, samples...)
		}
	}
	return all
}
