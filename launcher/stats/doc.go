// Package stats reads what boxes use: processor time, memory, processes, disk and network of each whole box, for a
// person, for programs and for Prometheus.
//
// Package stats starts no process and changes nothing. Begin with Read.
package stats
