// Package host is what boxrun keeps on the host over reboots: Setup, Show and Reset, with the dry runs of Setup and
// Reset.
//
// Package host is above package launcher: a reset takes boxes down. What a setup consists of, and how boxrun's traces
// are found without records, is in package netsetup.
package host
