// Package routing is the host's routing as data: rules, tables of routes, addresses. The package answers which way a
// packet takes, and plans what makes the answers of boxes leave by where the questions came in. The package
// asks the kernel nothing but in [Leaves], and changes nothing but in [Change.Apply]; package netsetup reads the lists.
// Begin with [Read] and [Facts.Answers].
package routing
