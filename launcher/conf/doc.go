// Package conf has the files that boxrun binds over a box's /etc: masks of units, resolv.conf, hosts with the names of
// other boxes, environment, secrets.
//
// Package conf writes below the state directory only; the box sees a change at once. Package conf also finds and mends
// what has changed since the start: names.go has the hosts files, resolvers.go the name servers. Begin with Dir in
// dir.go and Told in told.go, which says what a box is told.
package conf
