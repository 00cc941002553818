// Package testhost makes whole hosts to test boxrun on: a Debian with its own systemd, iptables and Apptainer, booted in
// namespaces of the machine, and a client host on the other side of its external interface. No virtual machine and no
// container engine is needed, but root is.
//
//	client 192.0.2.2 (and the way to everywhere else) ---- eth0 192.0.2.1 host ---- sbr0 ---- boxes
//
// A host touches nothing of the machine but what carries its name: a directory below /run/boxrun-test, two network
// namespaces and a cgroup. Its processes end with the process that booted it, however that one ends; what else is left of
// a killed run is swept by the next New.
//
// What a host shares with the machine is the kernel: sysctls outside net, loop devices, the clock.
package testhost
