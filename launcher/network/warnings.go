package network

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/lan"
	"boxrun/launcher/list"
	"boxrun/launcher/storage"
	"boxrun/netsetup"
	"boxrun/netsetup/firewall"
	"boxrun/netsetup/led"
	"boxrun/netsetup/routing"
	"boxrun/netsetup/rules"
	"boxrun/profiles/port"
)

// RepairCommand repairs everything of boxrun's on the host.
const RepairCommand = "boxrun doctor --fix"

// RemovalHint returns advice for the administrator on a rule that takes a port. For a rule in one of boxrun's own
// tables the advice is RepairCommand: boxrun can put its rule first there.
func RemovalHint(rule string) string {
	words := strings.Fields(rule)
	switch {
	case words[0] == "nft" && len(words) == 7:
		return fmt.Sprintf("publish another host port, or remove that rule: nft delete %s", strings.Join(words[1:], " "))
	case words[0] != "iptables" && words[0] != "ip6tables":
		return "publish another host port, or remove that rule: " + DeleteCommand(rule)
	}
	return RepairCommand
}

// DeleteCommand returns the command that deletes a rule; rule is the command that adds the rule.
func DeleteCommand(rule string) string {
	return strings.Replace(rule, " -A ", " -D ", 1)
}

// LookAhead looks for everything on the host at odds with the box's profile that does not keep the box from starting:
// overlapping networks, ports published on addresses the host lacks, published ports used by clients on the host, files
// written by two boxes, and other firewalls. Such a firewall may decide after boxrun's rules: a drop in an nftables chain of
// another table is final, and only the administrator can let the packet pass. Failing to find out is worth a warning line, and
// no more. The rules are in place for the address reserved. What is returned notes all, once the box has its veth.
func LookAhead(s *box.Store, k *netsetup.Kernel, b *box.Box) (warn func()) {
	k.Reread()
	reserved, found := b.Addr, slices.Concat(
		heed(b, "packets for the box may go elsewhere", func(b *box.Box) ([]fault.Caution, error) { return cautionsOfOverlap(s, k, b) }),
		heed(b, "ports may be published on addresses that this host has not", cautionsOfNowhere),
		heed(b, "published ports may be in use on the host", cautionsOfListeners),
		heed(b, "other boxes may have this one's files", func(b *box.Box) ([]fault.Caution, error) { return cautionsOfTrees(s, b) }),
		lan.Cautions(b.Parent),
		heed(b, "other firewalls of this host may be in the way", func(b *box.Box) ([]fault.Caution, error) { return cautionsOfFirewalls(k, b) }),
	)
	return func() {
		if b.Addr != reserved {
			LookAhead(s, k, b)()
			return
		}
		all := slices.Concat(found, heed(b, "the host's own settings may be in the way", Obstacles))
		for i, c := range all { // consecutive cautions with the same hint share a line for the hint
			s.Notef("%s: warning: %s", b.Name, c.Text)
			if last := i+1 == len(all); c.Hint != "" && (last || all[i+1].Hint != c.Hint) {
				s.Notef("hint: %s", c.Hint)
			}
		}
	}
}

// heed returns what find finds. blind is what may be wrong where that fails.
func heed(b *box.Box, blind string, find func(*box.Box) ([]fault.Caution, error)) []fault.Caution {
	found, err := find(b)
	if err != nil {
		found = append(found, fault.Caution{Text: fmt.Sprintf("%s: %v", blind, err)})
	}
	return found
}

// cautionsOfOverlap returns a caution for what leads packets for the box elsewhere: a route or an address that came after
// the box, in the box's subnet, or a rule.
func cautionsOfOverlap(s *box.Store, k *netsetup.Kernel, b *box.Box) ([]fault.Caution, error) {
	if !b.Bridged() {
		return nil, nil
	}
	if err := k.Overlap(Of(s, b)); err != nil {
		return []fault.Caution{{Text: err.Error() + ": packets for one of the two go to the other",
			Hint: "take that away, or choose another network.subnet, and with it another network.bridge"}}, nil
	}
	lost, err := led.Astray(b.Profile.Network.Bridge, b.Addrs()...)
	return list.Map(lost, func(d led.Detour) fault.Caution { return fault.Caution(d) }), err
}

// cautionsOfTrees returns a caution for each directory the box shares with another box.
func cautionsOfTrees(s *box.Store, b *box.Box) ([]fault.Caution, error) {
	others, err := s.Others(b.Name)
	said, lookErr := storage.SharedTrees(b, others)
	return said, errors.Join(err, lookErr)
}

// cautionsOfFirewalls returns cautions about firewalls of others; nil for a box without a bridge.
func cautionsOfFirewalls(k *netsetup.Kernel, b *box.Box) ([]fault.Caution, error) {
	if !b.Bridged() {
		return nil, nil
	}
	view, err := netsetup.LookFirewalld(b.Profile.Network.Bridge)
	if err != nil {
		return nil, err
	}
	said := firewalldSays(b, view)
	f, err := k.Firewall(b.Addr6().IsValid())
	if err != nil {
		return said, err
	}
	external, err := External(b.Profile.Network)
	if err != nil || external.Name == "" {
		return said, err // a host without an outside interface forwards nothing
	}
	strict := view != nil && view.StrictPorts
	return slices.Concat(said, untracked(f, b, external), shadowed(f, b, external), blocked(f, b, external, strict)), nil
}

// firewalldSays returns cautions about a running firewalld. A nil view stands for no firewalld.
func firewalldSays(b *box.Box, view *netsetup.FirewalldView) []fault.Caution {
	var said []fault.Caution
	if view == nil {
		return nil
	}
	if view.Trusting {
		said = append(said, fault.Caution{
			Text: fmt.Sprintf("firewalld has %s in its zone trusted, so boxes reach every port of this host", b.Profile.Network.Bridge),
			Hint: "\"boxrun host setup\" makes a zone that only lets them out"})
	}
	if view.StrictPorts && len(b.Profile.Network.PortsFor(b.Addr)) > 0 {
		p := b.Profile.Network.PortsFor(b.Addr)[0]
		said = append(said, fault.Caution{
			Text: "firewalld has StrictForwardPorts=yes: it rejects published ports, the host's own connections to them included",
			Hint: fmt.Sprintf("set it to no in /etc/firewalld/firewalld.conf, or have firewalld let each port pass: "+
				"firewall-cmd --permanent --add-forward-port=port=%d:proto=%s:toport=%d:toaddr=%s; then firewall-cmd --reload",
				p.Host, p.Proto, p.Container, b.Addr)})
	}
	return said
}

// shadowed returns cautions for published ports redirected, or perhaps redirected, by rules of others ahead of
// boxrun's. Such rules come from native nftables or iptables' other backend, or are newer than the box: older rules in
// iptables would have kept the box from starting.
func shadowed(f firewall.State, b *box.Box, external netsetup.External) []fault.Caution {
	var said []fault.Caution
	for _, t := range trips(b, external) {
		if !t.packet.ToHost {
			continue
		}
		o := f.Translation("prerouting", t.packet)
		if o.Rule != "" && !rules.Ours(o.Rule) {
			said = append(said, fault.Caution{Text: fmt.Sprintf("%s goes elsewhere, by %s", t.what, firewall.RuleText(o.Rule)), Hint: RemovalHint(o.Rule)})
		} else if len(o.Rivals) > 0 {
			said = append(said, fault.Caution{
				Text: fmt.Sprintf("%s goes elsewhere if it is asked first, by %s", t.what, firewall.RuleText(o.Rivals[0])),
				Hint: RemovalHint(o.Rivals[0])})
		}
	}
	return said
}

// untracked returns a caution for each rule that keeps connection tracking from a published port, or from its answers.
func untracked(f firewall.State, b *box.Box, external netsetup.External) []fault.Caution {
	var said []fault.Caution
	for _, addr := range b.Addrs() {
		for _, p := range b.Profile.Network.PortsFor(addr) {
			rule := Untracked(f, b, addr, p, external.Name, on(p, addr, external))
			c := fault.Caution{
				Text: fmt.Sprintf("connections to port %d/%s are not translated, by %s", p.Host, p.Proto, firewall.RuleText(rule)),
				Hint: UntrackedHint(rule)}
			if rule != "" && !slices.Contains(said, c) {
				said = append(said, c)
			}
		}
	}
	return said
}

// on returns the address of the host at which clients reach a port of a box at an address of either family: the port's own,
// or the first of the external interface; zero for none.
func on(p port.Port, box netip.Addr, external netsetup.External) netip.Addr {
	if p.HostIP.IsValid() && !p.HostIP.IsUnspecified() {
		return p.HostIP
	}
	return external.Addr(box)
}

// Untracked returns the rule that keeps connection tracking from a published port of a box at an address of either family,
// or from its answers, "" for none: for clients outside, who come in by a device and ask an address of the host, or for the
// host itself.
func Untracked(f firewall.State, b *box.Box, addr netip.Addr, p port.Port, device string, at netip.Addr) string {
	here, someone := p.HostIP, routing.Somewhere(addr)
	switch {
	case here.IsValid() && !here.IsUnspecified():
	case addr.Is6(): // the host's own ::1 is never translated
		here = at
	default:
		here = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	answer := firewall.Packet{In: b.Profile.Network.Bridge, Src: addr, Dst: someone, Proto: p.Proto, SPort: p.Container, DPort: 40000, Reply: true}
	own := firewall.Packet{Out: "lo", Src: here, Dst: here, Proto: p.Proto, SPort: 40000, DPort: p.Host, ToHost: true}
	if rule := f.Untracked("output", own, answer); rule != "" || at.IsLoopback() {
		return rule
	}
	client := firewall.Packet{In: device, Src: someone, Dst: at, Proto: p.Proto, SPort: 40000, DPort: p.Host, ToHost: true}
	return f.Untracked("prerouting", client, answer)
}

// UntrackedHint returns advice for the administrator on a rule of Untracked.
func UntrackedHint(rule string) string {
	if strings.HasPrefix(rule, "nft ") {
		return RemovalHint(rule)
	}
	return "publish another host port, or remove that rule: " + DeleteCommand(rule)
}

// Admitted returns the ports at an address of a box that somebody may reach: none where network.allow_from names no network
// of the family.
func Admitted(b *box.Box, addr netip.Addr) []port.Port {
	n := b.Profile.Network
	if len(n.AllowFrom) > 0 && len(n.AllowFor(addr)) == 0 {
		return nil
	}
	return n.PortsFor(addr)
}

// trip is a packet to or from the box, passing through the host.
type trip struct {
	what   string
	packet firewall.Packet
	to     netip.AddrPort // destination of packets to a published port
}

// blocked returns a caution for each rule that drops packets the box needs. With strict, rules of firewalld are left
// out: firewalldSays covers them.
func blocked(f firewall.State, b *box.Box, external netsetup.External, strict bool) []fault.Caution {
	var said []fault.Caution
	var rules []string
	for _, t := range trips(b, external) {
		rule := f.Forwarded(t.packet, t.to).Rule
		if rule == "" || slices.Contains(rules, rule) || strict && ofFirewalld(rule) {
			continue
		}
		rules = append(rules, rule)
		said = append(said, fault.Caution{
			Text: fmt.Sprintf("%s is dropped by %s", t.what, firewall.RuleText(rule)),
			Hint: PassHint(rule, b.Profile.Network.Bridge)})
	}
	return said
}

// trips returns the first packet of a connection through each published port, the first packet of a connection made by
// the box, and the answer to each, for each address of the box.
func trips(b *box.Box, external netsetup.External) []trip {
	var all []trip
	for _, addr := range b.Addrs() {
		all = append(all, tripsTo(b, addr, external)...)
	}
	return all
}

// tripsTo returns the trips for an address of the box.
func tripsTo(b *box.Box, addr netip.Addr, external netsetup.External) []trip {
	bridge := b.Profile.Network.Bridge
	someone := routing.Somewhere(addr)
	var all []trip
	for _, p := range Admitted(b, addr) {
		at := on(p, addr, external)
		nowhere := b.Profile.Network.External != "" && !at.IsValid()
		if p.HostIP.IsLoopback() || nowhere {
			continue // the host's own packets are not forwarded, and a port published nowhere is told of elsewhere
		}
		client := someone
		if from := b.Profile.Network.AllowFor(addr); len(from) > 0 {
			client = from[0].Addr()
		}
		all = append(all,
			trip{fmt.Sprintf("what clients send to port %d/%s", p.Host, p.Proto), firewall.Packet{
				In: external.Name, Out: bridge, Src: client, Dst: at, Proto: p.Proto, SPort: 40000, DPort: p.Host, ToHost: true,
			}, netip.AddrPortFrom(addr, p.Container)},
			trip{fmt.Sprintf("what the box answers from port %d/%s", p.Host, p.Proto), firewall.Packet{
				In: bridge, Out: external.Name, Src: addr, Dst: client, Proto: p.Proto, SPort: p.Container, DPort: 40000,
				Reply: true, Translated: true,
			}, netip.AddrPort{}})
	}
	return append(all,
		trip{"what the box sends out", firewall.Packet{
			In: bridge, Out: external.Name, Src: addr, Dst: someone, Proto: "tcp", SPort: 40000, DPort: 443,
		}, netip.AddrPort{}},
		trip{"what others answer to the box", firewall.Packet{
			In: external.Name, Out: bridge, Src: someone, Dst: addr, Proto: "tcp", SPort: 443, DPort: 40000, Reply: true,
		}, netip.AddrPort{}})
}

// ofFirewalld reports whether a rule is in firewalld's table of nftables.
func ofFirewalld(rule string) bool { return strings.Contains(rule, " inet firewalld ") }

// PassHint returns advice for the administrator on how to let a bridge's traffic pass a rule.
func PassHint(rule, bridge string) string {
	words := strings.Fields(rule)
	switch {
	case ofFirewalld(rule):
		return fmt.Sprintf("put %s into a zone that forwards: \"boxrun host setup\", then \"firewall-cmd --permanent --zone=boxrun "+
			"--change-interface=%[1]s\" and \"firewall-cmd --reload\"", bridge)
	case strings.HasPrefix(rule, "nft ") && len(words) > 4 && (words[2] == "bridge" || words[2] == "netdev"):
		return "let what comes from boxes and goes to them pass, there and in the file it comes from: nft -a list chain " + strings.Join(words[2:5], " ")
	case words[0] == "nft" && len(words) > 4:
		chain := strings.Join(words[2:5], " ")
		return fmt.Sprintf("add to that chain, now and in the file it comes from: nft 'insert rule %s iifname %q accept; "+
			"insert rule %[1]s oifname %[2]q ct state established,related accept; insert rule %[1]s oifname %[2]q ct status dnat accept'",
			chain, bridge)
	}
	return fmt.Sprintf("let what comes from %s and goes to it pass before that rule", bridge)
}

// LetPass returns the command with which packets of boxes on a bridge get past a rule that drops them. For rules of
// boxrun and rules of iptables' filter table boxrun repairs the order: once boxrun's rules are first in filter, the
// same backend asks no other rule before them.
func LetPass(rule, bridge string) string {
	switch {
	case rules.Ours(rule), strings.HasPrefix(rule, "iptables -t filter "), strings.HasPrefix(rule, "ip6tables -t filter "):
		return RepairCommand
	case strings.HasPrefix(rule, "iptables"), strings.HasPrefix(rule, "ip6tables"):
		return DeleteCommand(rule)
	}
	return PassHint(rule, bridge)
}
