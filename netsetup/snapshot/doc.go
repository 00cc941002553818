// Package snapshot tells what changed in the host's network between two looks, and the command that takes each change
// back: for a box that shares the host's network, and may do there what it likes. The package only reads, and reverts
// nothing itself. It must not know plans, boxes or bridges (package netsetup); boxrun's own things are known by their
// names, and left out. Begin with [Look] and [Snapshot.Changes].
package snapshot
