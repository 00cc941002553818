// Package netsetup is the host's network as data: a Plan says what boxrun wants there, and the same value is printed,
// checked, applied, stored and undone. It also answers what a plan needs to know of the host: free addresses, who
// holds a port, which routes overlap, where a box's address and veth are. It knows no profiles and no boxes beyond a
// name, an address and a list of ports.
package netsetup
