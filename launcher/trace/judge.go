package trace

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"boxrun/launcher/box"
	"boxrun/launcher/network"
	"boxrun/launcher/passage"
	"boxrun/launcher/say"
	"boxrun/netsetup/dump"
	"boxrun/netsetup/firewall"
	"boxrun/netsetup/rules"
)

// judge puts into words what happened to packets of a box.
type judge struct {
	*box.Box
	box     []netip.Addr // the addresses of the box on the bridge
	host    []netip.Addr // the host's own addresses
	symbols symbols
}

// netfilterDrop is the kernel's reason where a rule drops a packet.
const netfilterDrop = "NETFILTER_DROP"

// dropped returns the event of a drop.
func (j judge) dropped(d drop) Event {
	e := Event{Time: time.Now(), Kind: Drop, Packet: d.String(), Reason: d.reason, Times: 1}
	if d.reason == netfilterDrop {
		e.Text, e.Fix = j.filtered(d)
		return e
	}
	e.Text, e.Fix = j.sentence(d)
	return e
}

// met returns the event of a step: a drop where the rule drops the packet. The rule is named as by package firewall.
func (j judge) met(s step, rule string) Event {
	e := Event{Time: time.Now(), Kind: Rule, Packet: s.String(), Times: 1}
	if s.verdict == nfDrop {
		e.Kind, e.Reason = Drop, netfilterDrop
		e.Text, e.Fix = j.byRule(s.packet, rule)
		return e
	}
	e.Text = firewall.RuleText(rule)
	return e
}

// filtered names the rule dropping a packet, as far as a look at all rules tells.
func (j judge) filtered(d drop) (text, fix string) {
	if d.inBox {
		return "dropped by a rule of the box's own firewall", j.typed(d, "nft list ruleset")
	}
	const unknown = "a rule of a firewall drops it"
	if d.tracked {
		return unknown + " after its addresses were translated", lists(d.packet)
	}
	state, err := firewall.Read()
	if err != nil {
		return unknown, ""
	}
	o := state.Forwarded(j.walked(d.packet))
	switch {
	case o.Dropped:
		return j.byRule(d.packet, o.Rule)
	case len(o.Unsure) > 0:
		return unknown + ", and these may be it: " + say.Listed(o.Unsure, 3), ""
	}
	return unknown, lists(d.packet)
}

// lists returns the command that lists all rules for a packet.
func lists(p packet) string { return "nft list ruleset; " + rules.Tool(p.src.Addr()) + "-save" }

// byRule tells of a rule dropping a packet. The rule is named as by package firewall. boxrun's own rules drop what the
// profile does not let in.
func (j judge) byRule(p packet, rule string) (text, fix string) {
	n := j.Profile.Network
	toBox := j.isBox(p.dst) && rules.Ours(rule)
	named := func(allowed netip.Prefix) bool { return allowed.Contains(p.src.Addr()) }
	switch {
	case rules.Ours(rule) && (strings.Contains(rule, "-A BOXRUN-IN-") || strings.Contains(rule, "INVALID")):
		return "the host knows no connection of it (INVALID): it is late, forged or damaged, and would end one: " + rule, ""
	case toBox && !j.publishes(p.dst, p.proto):
		port := fmt.Sprintf("%d/%s", p.dst.Port(), p.proto)
		return fmt.Sprintf("boxrun lets in published ports alone, and %s in the box is none: %s", port, rule),
			fmt.Sprintf("add it to network.ports in %s, and boxrun up --replace %s", j.Profile.File, j.Name)
	case toBox && len(n.AllowFrom) > 0 && !slices.ContainsFunc(n.AllowFrom, named):
		return fmt.Sprintf("network.allow_from does not name %s: %s", p.src.Addr(), rule),
			fmt.Sprintf("add it to network.allow_from in %s, and boxrun up --replace %s", j.Profile.File, j.Name)
	}
	if strings.HasPrefix(rule, rules.Tool(p.src.Addr())+" -t filter ") && j.ownCommand(p) != "" {
		return "dropped by: " + rule, j.ownCommand(p)
	}
	return "dropped by: " + firewall.RuleText(rule), passage.LetPass(rule, n.Bridge)
}

// isBox reports whether an address is the box's.
func (j judge) isBox(a netip.AddrPort) bool { return slices.Contains(j.box, a.Addr()) }

// ownCommand returns the command with which a packet between the box and the host itself gets past iptables' filter; ""
// for a forwarded packet, about which boxrun's rules decide first.
func (j judge) ownCommand(p packet) string {
	n, tool := j.Profile.Network, rules.Tool(p.src.Addr())
	switch {
	case p.proto != "tcp" && p.proto != "udp" && p.proto != "sctp":
		return ""
	case j.isBox(p.src) && slices.Contains(j.host, p.dst.Addr()):
		return fmt.Sprintf("%s -I INPUT -i %s -p %s --dport %d -j ACCEPT", tool, n.Bridge, p.proto, p.dst.Port())
	case j.isBox(p.dst) && slices.Contains(j.host, p.src.Addr()):
		return fmt.Sprintf("%s -I OUTPUT -o %s -p %s --dport %d -j ACCEPT", tool, n.Bridge, p.proto, p.dst.Port())
	}
	return ""
}

// walked returns a packet as package firewall follows it through the rules, and where rules translate it to.
func (j judge) walked(p packet) (firewall.Packet, netip.AddrPort) {
	bridge := j.Profile.Network.Bridge
	walked := firewall.Packet{
		In: deviceName(p.iif), Out: bridge, Src: p.src.Addr(), Dst: p.dst.Addr(),
		Proto: p.proto, SPort: p.src.Port(), DPort: p.dst.Port(),
		Reply: p.proto == "tcp" && p.flags != "SYN",
	}
	switch {
	case j.isBox(p.src):
		walked.In, walked.Out = bridge, ""
		if e, err := network.External(j.Profile.Network); err == nil {
			walked.Out = e.Name
		}
	case j.isBox(p.dst):
		walked.Translated = j.publishes(p.dst, p.proto)
	default:
		walked.ToHost = true
		return walked, j.behind(p.dst, p.proto)
	}
	return walked, netip.AddrPort{}
}

// publishes reports whether a port in the box is published.
func (j judge) publishes(in netip.AddrPort, proto string) bool {
	for _, p := range j.Profile.Network.PortsFor(in.Addr()) {
		if p.Proto == proto && in.Port() >= p.Container && in.Port()-p.Container < p.Count {
			return true
		}
	}
	return false
}

// behind returns the address and port in the box behind a published port.
func (j judge) behind(on netip.AddrPort, proto string) netip.AddrPort {
	for _, box := range j.box {
		for _, p := range j.Profile.Network.PortsFor(box) {
			if box.Is6() == on.Addr().Is6() && publishesOn(p, on, proto) {
				return netip.AddrPortFrom(box, p.Container+(on.Port()-p.Host))
			}
		}
	}
	return netip.AddrPort{}
}

// deviceOf returns the name of the device by which a dropped packet came, on the host or in the box.
func (j judge) deviceOf(d drop) (name string) {
	if !d.inBox {
		return deviceName(d.iif)
	}
	err := dump.InNetworkOf(j.Init.PID, func() error {
		name = deviceName(d.iif)
		return nil
	})
	if err != nil { // the box has ended
		return "a device of the box"
	}
	return name
}

// deviceName returns the name of a device, "lo" for packets without a device.
func deviceName(index int) string {
	device, err := net.InterfaceByIndex(index)
	if err != nil {
		return "lo"
	}
	return device.Name
}
