// Package testhost makes whole hosts to test boxrun on: a Debian with its own systemd, iptables and Apptainer, booted
// in namespaces of the machine, and a client host on the other side of the external interface. Hosts need root, but no
// virtual machine and no container engine.
//
//	client 192.0.2.2 (and the way to everywhere else) ---- eth0 192.0.2.1 host ---- sbr0 ---- boxes
//
// On the machine a host touches only things that carry its name: a directory below /run/boxrun-test, two network
// namespaces and a cgroup. The processes of a host end with the process that booted the host, however this process
// ends. The next New sweeps the rest of a killed run.
//
// A host shares the kernel with the machine: sysctls outside net, loop devices, the clock.
//
// The package knows how to install boxrun, but not what boxrun does. Begin reading at New in host.go.
package testhost
