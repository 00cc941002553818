// Package process looks at one process and one cgroup of this host, signals and kills them, and waits for their end. A
// Process is a number with a start time, so a reused number is never taken for the same process.
//
// Package process knows neither Apptainer nor boxes. Begin with Process and CgroupOf.
package process
