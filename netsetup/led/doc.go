// Package led knows what leads the host's own packets to the boxes of a bridge: the route to their network, and the
// bridge's questions for their MACs. Other programs take each away under an address that stays. The package must not know
// plans, boxes or profiles. Begin with [Faults].
package led
