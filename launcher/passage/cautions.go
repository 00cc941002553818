package passage

import (
	"fmt"
	"net/netip"
	"slices"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/netsetup"
	"boxrun/netsetup/firewall"
	"boxrun/netsetup/routing"
	"boxrun/netsetup/rules"
	"boxrun/profiles/port"
)

// Cautions returns a caution for each rule of others in the way of packets to the box or from the box. f are the rules as
// [firewall.State.Rivals] returns them, external is the interface between the box and the outside, and firewalld looks how firewalld
// treats the bridge. A host without such an interface forwards nothing, and gets no cautions.
func Cautions(f firewall.State, b *box.Box, external netsetup.External, firewalld func(bridge string) (*netsetup.FirewalldView, error)) ([]fault.Caution, error) {
	if f.None() || external.Name == "" {
		return nil, nil
	}
	dropped, err := blocked(f, b, external, firewalld)
	return slices.Compact(slices.Concat(untracked(f, b, external), shadowed(f, b, external), dropped)), err
}

// shadowed returns cautions for published ports with rules of others for the same port. Such rules come from native nftables or
// iptables' other backend, or are newer than the box: older rules in iptables would have kept the box from starting.
func shadowed(f firewall.State, b *box.Box, external netsetup.External) []fault.Caution {
	var said []fault.Caution
	others := f.Others()
	for _, t := range trips(b, external) {
		if !t.packet.ToHost {
			continue
		}
		if wanted := others.Translation("prerouting", t.packet).Rule; wanted != "" {
			said = append(said, contested(f, t, wanted))
		}
	}
	return said
}

// contested returns the caution for a published port with a rule of others for the same port.
func contested(f firewall.State, t trip, wanted string) fault.Caution {
	o := f.Translation("prerouting", t.packet)
	switch {
	case o.Rule != "" && !rules.Ours(o.Rule):
		return fault.Caution{Text: fmt.Sprintf("%s goes elsewhere, by %s", t.what, f.Text(o.Rule)), Hint: RemovalHint(o.Rule)}
	case len(o.Rivals) > 0:
		return fault.Caution{
			Text: fmt.Sprintf("%s goes elsewhere if it is asked first, by %s", t.what, f.Text(o.Rivals[0])),
			Hint: RemovalHint(o.Rivals[0])}
	}
	return fault.Caution{
		Text: fmt.Sprintf("%s goes to the box, and others want it too, by %s", t.what, f.Text(wanted)),
		Hint: ShareHint(wanted)}
}

// untracked returns a caution for each rule by which connection tracking misses a published port, or the answers.
func untracked(f firewall.State, b *box.Box, external netsetup.External) []fault.Caution {
	var said []fault.Caution
	for _, addr := range b.Addrs() {
		for _, p := range b.Profile.Network.PortsFor(addr) {
			rule := Untracked(f, b, addr, p, external.Name, On(p, addr, external))
			c := fault.Caution{
				Text: fmt.Sprintf("connections to port %d/%s are not translated, by %s", p.Host, p.Proto, f.Text(rule)),
				Hint: UntrackedHint(rule)}
			if rule != "" && !slices.Contains(said, c) {
				said = append(said, c)
			}
		}
	}
	return said
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

// blocked returns a caution for each rule in which packets of the box end. Rules made by StrictForwardPorts of firewalld get a
// single caution, of that setting.
func blocked(f firewall.State, b *box.Box, external netsetup.External, firewalld func(bridge string) (*netsetup.FirewalldView, error)) (said []fault.Caution, err error) {
	var rules []string
	for _, t := range trips(b, external) {
		rule := t.dropped(f)
		if rule == "" || slices.Contains(rules, rule) {
			continue
		}
		rules = append(rules, rule)
		if ofFirewalld(rule) {
			view, err := firewalld(b.Profile.Network.Bridge)
			if err != nil {
				return said, err
			}
			if c := strict(b, view); len(c) > 0 {
				said = append(said, c...)
				continue
			}
		}
		said = append(said, fault.Caution{
			Text: fmt.Sprintf("%s is dropped by %s", t.what, f.Text(rule)),
			Hint: t.hint(rule, b.Profile.Network.Bridge)})
	}
	return said, nil
}

// dropped returns the rule that drops the packet; "" for none.
func (t trip) dropped(f firewall.State) string {
	if t.own {
		return f.Own(t.packet).Rule
	}
	return f.Forwarded(t.packet, t.to).Rule
}

// hint returns advice for the administrator on a rule that drops the packet.
func (t trip) hint(rule, bridge string) string {
	if t.own {
		return OwnHint(rule, bridge)
	}
	return PassHint(rule, bridge)
}
