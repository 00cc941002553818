// Package network puts a box on the host's network, by plans of package netsetup: raises what boxes share, asks
// netsetup for the box's address, publishes ports, finds drift and repairs drift, and takes away what no box needs any
// more.
//
// Package network keeps no rules of its own: a rule is made in netsetup. Begin with Raise in shared.go and Publish in
// publish.go; the repair is in repair.go, what a profile may not ask for in refuse.go, what is worth a warning in
// warnings.go.
package network
