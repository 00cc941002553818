// Package offload says in which directions checksums of boxes' packets cannot be left to a network card, by the driver of
// the card, and turns features of devices off and on. The package must not know plans and boxes. Begin with [Drivers] in
// drivers.go, then [Look] in look.go and [Turn] in turn.go.
package offload
