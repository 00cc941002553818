// Package netsetup is the host's network as data: a Plan says what boxrun wants there, and the same value is printed,
// checked, applied, stored and undone. The package also answers what a plan needs to know of the host: free addresses,
// holders of ports, overlapping routes, a box's address and veth. It must not know profiles, nor more of a box than a
// name, an address and a list of ports; other people's rules are the matter of package firewall. Begin with [Plan] and
// its steps in plan.go, then read the three builders: [Host], [Bridge] and [Ports].
package netsetup
