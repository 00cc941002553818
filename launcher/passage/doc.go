// Package passage knows how rules of others keep packets from a box, or from the clients of a box: in iptables and in
// nftables, on bridges, devices and for ARP. The words are the same for all verbs: up, ps, status, repair, doctor. The package
// changes nothing, and must not know of plans or of the state of boxes on disk. Begin with [Cautions]; the packets are in trips.go.
package passage
