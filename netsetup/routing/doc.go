// Package routing is the host's routing as data: rules, tables of routes, addresses. The package answers which way a
// packet takes, and plans what makes the answers of boxes leave by where the questions came in. The package
// changes nothing, and asks the kernel nothing but in [Leaves]; package netsetup reads the lists, and applies the plan.
// Begin with [Read] and [Facts.Answers].
package routing
