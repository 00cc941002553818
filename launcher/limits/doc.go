// Package limits holds a box to the limits of [resources]: on Apptainer's command line at the start, in the cgroup of
// a box that runs, and tells what the box uses.
//
// Package limits knows cgroup version 2 only. Begin with HoldAtStart and Drift.
package limits
