// Package launcher is the life of a box: up, down, repair, status, diff, and the dry runs of these.
//
// A box is described by a profile (package profiles) and its network by plans (package netsetup). What one step needs
// is in a room below this directory, each with a doc.go; package launcher has the order of the steps. It prints
// nothing and does not exit: what there is to say is returned, or handed to Note and Live.
//
// An up is one trip: examine looks the facts up and refuses, plan says what a start puts on the host, and boot applies
// the plan. A dry run prints the same plan. Begin with Up in up.go, plan in plan.go and Down in down.go.
package launcher
