// Package six is IPv6 of a box: the network of a bridge, the address of a box there, and what is inside the box. It must
// not know plans and rules. Begin with [Beside] in network.go, then [Inside] in inside.go.
package six
