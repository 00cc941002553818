// Package lan is the host's side of boxes with an address on a LAN of the host. The kernel passes no packet between a
// box on a macvlan device and the host's own device below; a macvlan device of the host, beside that of the box, leads
// from the host to such boxes. Package lan must not know plans. Begin with [Way]
// in way.go; [Inside] in inside.go finds what address a box has.
package lan
