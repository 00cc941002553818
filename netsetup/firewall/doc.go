// Package firewall looks at the rules of the whole host, boxrun's and other people's, in both backends of iptables and in
// native nftables: what becomes of a packet on its way through them, and which rules of others take a host port. It only
// reads. It must not know plans, boxes or bridges (package netsetup), only the names by which package rules tells what is
// boxrun's. Begin with [Read], [State.Forwarded] and [State.Translation]; walk.go follows a packet through iptables,
// walknft.go through nftables.
package firewall
