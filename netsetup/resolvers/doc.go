// Package resolvers finds the name servers that the host's own answers come from, in resolv.conf(5) and the files of
// systemd-resolved and NetworkManager behind a stub. The package reads files alone: it asks no server, changes nothing,
// and must not know plans, boxes or profiles, which may name other servers. Begin with [OfHost].
package resolvers
