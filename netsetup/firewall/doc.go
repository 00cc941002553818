// Package firewall looks at the rules of the whole host, boxrun's and other people's, in both backends of iptables and
// in native nftables: how a packet gets through them, and which rules of others take a host port. The package only
// reads. It must not know plans, boxes or bridges (package netsetup); boxrun's rules are known by the names in package
// rules. Begin with [Read], [State.Forwarded] and [State.Translation]; walk.go follows a packet through iptables,
// walknft.go through nftables.
package firewall
