// Package host is what boxrun keeps on the host over reboots: setup, show and reset.
//
// Package host is above package launcher: a reset takes boxes down. Begin with Setup and Reset.
package host
