// Package small reads small files by few calls of the kernel: those of /proc, /sys and cgroups, records, leases. The package
// knows nothing of boxrun, and imports no other room. Begin with [Read].
package small
