// Package watch is the one resident process of boxrun: on a host with an enabled box it waits for the kernel, the
// firewall and the resolver to tell of a change, and then has "boxrun repair" put right what the change broke.
//
// Package watch repairs nothing itself, and asks for nothing: without changes it never wakes up. Begin with Run; each
// source of changes has a file: routes.go, rules.go, resolvers.go, firewalld.go.
package watch
