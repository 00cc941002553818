// Package wayout says what the way out of a process's network begins with: the gateway there, and whether a neighbour answers.
// The package must not know plans, boxes or profiles. Begin with [Gateway].
package wayout
