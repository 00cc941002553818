package network

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/storage"
	"boxrun/netsetup"
	"boxrun/netsetup/firewall"
	"boxrun/netsetup/rules"
)

// MendCommand repairs everything that boxrun has set up.
const MendCommand = "boxrun doctor --fix"

// Removal returns the fix for a rule of others that takes a port. Rules of iptables are in the same tables as
// boxrun's, where boxrun can put its own rule first. Other rules a person must remove, or publish another port.
func Removal(rule string) string {
	words := strings.Fields(rule)
	switch {
	case words[0] == "nft" && len(words) == 7:
		return fmt.Sprintf("publish another host port, or remove that rule: nft delete %s", strings.Join(words[1:], " "))
	case words[0] != "iptables":
		return "publish another host port, or remove that rule: " + Deletion(rule)
	}
	return MendCommand
}

// Deletion turns the command that adds a rule into the command that deletes the rule.
func Deletion(rule string) string {
	return strings.Replace(rule, " -A ", " -D ", 1)
}

// WarnOfNeighbours warns of other firewalls of the host that treat the box's packets differently from the profile.
// Other firewalls may decide after boxrun's rules: a drop in an nftables chain of another table is final, and only the
// administrator can let the packet pass. Failing to find out is worth a warning line, and no more.
//
// WarnOfNeighbours also warns of ports published on addresses the host lacks, of published ports used by clients on the
// host, and of files written by two boxes.
func WarnOfNeighbours(s *box.Store, b *box.Box) {
	cautions, err := cautionsOfNowhere(b)
	if err != nil {
		cautions = append(cautions, fault.Caution{Text: fmt.Sprintf("ports may be published on addresses that this host has not: %v", err)})
	}
	clients, err := cautionsOfClients(b)
	if err != nil {
		clients = append(clients, fault.Caution{Text: fmt.Sprintf("published ports may be in use on the host: %v", err)})
	}
	trees, err := treesOf(s, b)
	if err != nil {
		trees = append(trees, fault.Caution{Text: fmt.Sprintf("other boxes may have this one's files: %v", err)})
	}
	firewalls, err := otherFirewalls(b)
	if err != nil {
		firewalls = append(firewalls, fault.Caution{Text: fmt.Sprintf("other firewalls of this host may be in the way: %v", err)})
	}
	warn(s, b, slices.Concat(cautions, clients, trees, firewalls))
}

// treesOf returns the cautions about files shared between the box and others.
func treesOf(s *box.Store, b *box.Box) ([]fault.Caution, error) {
	others, err := s.Others(b.Name)
	said, lookErr := storage.SharedTrees(b, others)
	return said, errors.Join(err, lookErr)
}

// warn notes each caution. Consecutive cautions with the same hint share a single hint line.
func warn(s *box.Store, b *box.Box, cautions []fault.Caution) {
	for i, c := range cautions {
		s.Notef("%s: warning: %s", b.Name, c.Text)
		if last := i+1 == len(cautions); c.Hint != "" && (last || cautions[i+1].Hint != c.Hint) {
			s.Notef("hint: %s", c.Hint)
		}
	}
}

// otherFirewalls returns cautions about firewalls of others; nil for a box without a bridge.
func otherFirewalls(b *box.Box) ([]fault.Caution, error) {
	if !b.Bridged() {
		return nil, nil
	}
	view, err := netsetup.LookFirewalld(b.Profile.Network.Bridge)
	if err != nil {
		return nil, err
	}
	said := firewalldSays(b, view)
	f, err := firewall.Read()
	if err != nil {
		return said, err
	}
	external, err := netsetup.DefaultExternal()
	if b.Profile.Network.External != "" {
		external, err = netsetup.ExternalNamed(b.Profile.Network.External)
	}
	if err != nil || external.Name == "" {
		return said, err // a host without an outside interface forwards nothing
	}
	strict := view != nil && view.StrictPorts
	return slices.Concat(said, shadowed(f, b, external), blocked(f, b, external, strict)), nil
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
	if view.StrictPorts && len(b.Profile.Network.Ports) > 0 {
		p := b.Profile.Network.Ports[0]
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
			said = append(said, fault.Caution{Text: fmt.Sprintf("%s goes elsewhere, by %s", t.what, firewall.RuleText(o.Rule)), Hint: Removal(o.Rule)})
		} else if len(o.Rivals) > 0 {
			said = append(said, fault.Caution{
				Text: fmt.Sprintf("%s goes elsewhere if it is asked first, by %s", t.what, firewall.RuleText(o.Rivals[0])),
				Hint: Removal(o.Rivals[0])})
		}
	}
	return said
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
			Hint: Remedy(rule, b.Profile.Network.Bridge)})
	}
	return said
}

// trips returns the first packet of a connection through each published port, the first packet of a connection made by
// the box, and the answer to each.
func trips(b *box.Box, external netsetup.External) []trip {
	bridge := b.Profile.Network.Bridge
	someone := netip.AddrFrom4([4]byte{203, 0, 113, 1}) // TEST-NET-3
	var all []trip
	for _, p := range b.Profile.Network.Ports {
		if p.HostIP.IsLoopback() {
			continue // the host's own packets are not forwarded
		}
		client, at := someone, p.HostIP
		if len(b.Profile.Network.AllowFrom) > 0 {
			client = b.Profile.Network.AllowFrom[0].Addr()
		}
		if !at.IsValid() && len(external.Addrs) > 0 {
			at = external.Addrs[0]
		}
		all = append(all,
			trip{fmt.Sprintf("what clients send to port %d/%s", p.Host, p.Proto), firewall.Packet{
				In: external.Name, Out: bridge, Src: client, Dst: at, Proto: p.Proto, SPort: 40000, DPort: p.Host, ToHost: true,
			}, netip.AddrPortFrom(b.Addr, p.Container)},
			trip{fmt.Sprintf("what the box answers from port %d/%s", p.Host, p.Proto), firewall.Packet{
				In: bridge, Out: external.Name, Src: b.Addr, Dst: client, Proto: p.Proto, SPort: p.Container, DPort: 40000,
				Reply: true, Translated: true,
			}, netip.AddrPort{}})
	}
	return append(all,
		trip{"what the box sends out", firewall.Packet{
			In: bridge, Out: external.Name, Src: b.Addr, Dst: someone, Proto: "tcp", SPort: 40000, DPort: 443,
		}, netip.AddrPort{}},
		trip{"what others answer to the box", firewall.Packet{
			In: external.Name, Out: bridge, Src: someone, Dst: b.Addr, Proto: "tcp", SPort: 443, DPort: 40000, Reply: true,
		}, netip.AddrPort{}})
}

// ofFirewalld reports whether a rule is in firewalld's table of nftables.
func ofFirewalld(rule string) bool { return strings.Contains(rule, " inet firewalld ") }

// Remedy returns advice for the administrator on letting a bridge's traffic pass the rule.
func Remedy(rule, bridge string) string {
	words := strings.Fields(rule)
	switch {
	case ofFirewalld(rule):
		return fmt.Sprintf("put %s into a zone that forwards: \"boxrun host setup\", then \"firewall-cmd --permanent --zone=boxrun "+
			"--change-interface=%[1]s\" and \"firewall-cmd --reload\"", bridge)
	case words[0] == "nft" && len(words) > 4:
		chain := strings.Join(words[2:5], " ")
		return fmt.Sprintf("add to that chain, now and in the file it comes from: nft 'insert rule %s iifname %q accept; "+
			"insert rule %[1]s oifname %[2]q ct state established,related accept; insert rule %[1]s oifname %[2]q ct status dnat accept'",
			chain, bridge)
	}
	return fmt.Sprintf("let what comes from %s and goes to it pass before that rule", bridge)
}
