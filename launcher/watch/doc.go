// Package watch is boxrun's only resident process. On a host with an enabled box the watch waits for the kernel, the
// firewall and the resolver to tell of a change, and then runs "boxrun repair".
//
// Package watch repairs nothing itself, and asks for nothing: without changes the watch never wakes up. Begin with Run;
// each source of changes has a file: routes.go, rules.go, ipsec.go, written.go, resolvers.go, firewalld.go,
// lan.go.
package watch
