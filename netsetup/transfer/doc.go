// Package transfer moves bytes between two networks of the host by TCP, in both directions, and looks at what arrives: at
// the bytes by their hash, at checksums by a capture where the packets come in. The package changes nothing, leaves nothing
// behind however the process ends, and must not know plans, rules and boxes. Begin with [Try] in transfer.go.
package transfer
