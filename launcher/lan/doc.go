// Package lan puts a box on a LAN of the host, with network.mode = "lan": it tells Apptainer's CNI plugins of the device
// below and of the address, finds what address the box has, and keeps the host's way to the box. The way itself is made in
// netsetup/lan.
//
// Package lan has no part in bridges and rules. Begin with [Conflist] in conflist.go and [Follow] in follow.go; what a
// profile may not ask for is in refuse.go.
package lan
