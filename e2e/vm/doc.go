// Package vm boots boxrun's test host in a virtual machine that QEMU emulates: for what namespaces of one kernel cannot
// show. The kernel is a distribution's, with modules that are not loaded yet, all cgroup2 controllers and all
// capabilities, and a reboot is one.
//
// A machine has no network but its own loopback and what is made inside. What is tested runs in it as a shell script, a
// stage, whose checks go out over the second serial port.
package vm
