// Package network puts a box on the host's network, by plans of package netsetup: raises what boxes share, finds the
// box's address in its namespace, publishes ports, finds drift and repairs it, and takes away what no box needs any
// more.
//
// Package network keeps no rules of its own: a rule is made in netsetup. Begin with Raise and Publish; the repair is
// in repair.go, what a profile may not ask for in refuse.go.
package network
