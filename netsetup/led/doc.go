// Package led knows what leads the host's own packets to the boxes of a bridge: the route to their network, and the
// bridge's questions for their MACs, with no rule or policy of IPsec in the way. Other programs take each away under an address
// that stays. The package must not know plans, boxes or profiles. Begin with [Faults].
package led
