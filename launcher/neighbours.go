package launcher

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"boxrun/netsetup"
	"boxrun/netsetup/firewall"
	"boxrun/netsetup/rules"
)

// caution is something a person should know, and what to do about it.
type caution struct{ text, hint string }

// warnOfNeighbours says what other firewalls of the host do with the box's packets, where that is not what the profile
// asks for. Each may have its say after boxrun's rules: an nftables chain of another table that drops a packet has the
// last word, and it is the administrator who must let it pass. Not to know is worth a line, and no more.
//
// Ports on addresses that the host has not are warned of as well, and files that two boxes write.
func (l *Launcher) warnOfNeighbours(b *Box) {
	cautions, err := b.cautionsOfNowhere()
	if err != nil {
		cautions = append(cautions, caution{text: fmt.Sprintf("ports may be published on addresses that this host has not: %v", err)})
	}
	clients, err := b.cautionsOfClients()
	if err != nil {
		clients = append(clients, caution{text: fmt.Sprintf("published ports may be in use on the host: %v", err)})
	}
	trees, err := l.treesOf(b)
	if err != nil {
		trees = append(trees, caution{text: fmt.Sprintf("other boxes may have this one's files: %v", err)})
	}
	firewalls, err := otherFirewalls(b)
	if err != nil {
		firewalls = append(firewalls, caution{text: fmt.Sprintf("other firewalls of this host may be in the way: %v", err)})
	}
	l.warn(b, slices.Concat(cautions, clients, trees, firewalls))
}

func (l *Launcher) treesOf(b *Box) ([]caution, error) {
	others, err := l.others(b.Name)
	said, lookErr := sharedTrees(b, others)
	return said, errors.Join(err, lookErr)
}

// warn says each, and what is to be done about several once.
func (l *Launcher) warn(b *Box, cautions []caution) {
	for i, c := range cautions {
		l.notef("%s: warning: %s", b.Name, c.text)
		if last := i+1 == len(cautions); c.hint != "" && (last || cautions[i+1].hint != c.hint) {
			l.notef("hint: %s", c.hint)
		}
	}
}

func otherFirewalls(b *Box) ([]caution, error) {
	if !b.bridged() {
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
		return said, err // a host on its own forwards nothing
	}
	strict := view != nil && view.StrictPorts
	return slices.Concat(said, shadowed(f, b, external), blocked(f, b, external, strict)), nil
}

// firewalldSays tells what a firewalld that runs makes of the box.
func firewalldSays(b *Box, view *netsetup.FirewalldView) []caution {
	var said []caution
	if view == nil {
		return nil
	}
	if view.Trusting {
		said = append(said, caution{
			fmt.Sprintf("firewalld has %s in its zone trusted, so boxes reach every port of this host", b.Profile.Network.Bridge),
			"\"boxrun host setup\" makes a zone that only lets them out"})
	}
	if view.StrictPorts && len(b.Profile.Network.Ports) > 0 {
		p := b.Profile.Network.Ports[0]
		said = append(said, caution{
			"firewalld has StrictForwardPorts=yes: it rejects published ports, the host's own connections to them included",
			fmt.Sprintf("set it to no in /etc/firewalld/firewalld.conf, or have firewalld let each port pass: "+
				"firewall-cmd --permanent --add-forward-port=port=%d:proto=%s:toport=%d:toaddr=%s; then firewall-cmd --reload",
				p.Host, p.Proto, p.Container, b.Addr)})
	}
	return said
}

// shadowed tells which ports of the box rules of others send elsewhere before boxrun's are asked, or may: those of native
// nftables and of iptables' other backend, and what has come since the start of a box, which iptables' rules would have
// kept from starting.
func shadowed(f firewall.State, b *Box, external netsetup.External) []caution {
	var said []caution
	for _, t := range trips(b, external) {
		if !t.packet.ToHost {
			continue
		}
		o := f.Translation("prerouting", t.packet)
		if o.Rule != "" && !rules.Ours(o.Rule) {
			said = append(said, caution{fmt.Sprintf("%s goes elsewhere, by %s", t.what, firewall.RuleText(o.Rule)), removal(o.Rule)})
		} else if len(o.Rivals) > 0 {
			said = append(said, caution{fmt.Sprintf("%s goes elsewhere if it is asked first, by %s", t.what,
				firewall.RuleText(o.Rivals[0])), removal(o.Rivals[0])})
		}
	}
	return said
}

// trip is a packet of the box's on its way through the host.
type trip struct {
	what   string
	packet firewall.Packet
	to     netip.AddrPort // where a port's packets are sent
}

// blocked tells which rules drop what the box needs, each once. With strict firewalld's are known already.
func blocked(f firewall.State, b *Box, external netsetup.External, strict bool) []caution {
	var said []caution
	var rules []string
	for _, t := range trips(b, external) {
		rule := f.Forwarded(t.packet, t.to).Rule
		if rule == "" || slices.Contains(rules, rule) || strict && ofFirewalld(rule) {
			continue
		}
		rules = append(rules, rule)
		said = append(said, caution{
			fmt.Sprintf("%s is dropped by %s", t.what, firewall.RuleText(rule)),
			remedy(rule, b.Profile.Network.Bridge)})
	}
	return said
}

// trips gives the first packet of a connection through each port, of one that the box makes, and the answers.
func trips(b *Box, external netsetup.External) []trip {
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

func ofFirewalld(rule string) bool { return strings.Contains(rule, " inet firewalld ") }

// remedy gives what the administrator must add so that the rule lets a bridge's traffic pass.
func remedy(rule, bridge string) string {
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
