// Package vm boots boxrun's test host in a virtual machine emulated by QEMU, for tests that namespaces of the running
// kernel cannot do. The kernel comes from a distribution, with modules not loaded yet, all cgroup2 controllers and all
// capabilities. A reboot of the machine reboots the kernel.
//
// A machine has no network but its own loopback and the networks made inside. Tests run in the machine as shell
// scripts, called stages. The checks of a stage print their results to the second serial port.
//
// The package owns the disk and the emulator. Root file systems come from package testhost. The package knows nothing
// of what a stage checks. Begin reading at machine.run.
package vm
