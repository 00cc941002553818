package passage

import (
	"fmt"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/netsetup"
)

// Firewalld returns cautions about a running firewalld. A nil view stands for no firewalld.
func Firewalld(b *box.Box, view *netsetup.FirewalldView) []fault.Caution {
	var said []fault.Caution
	if view == nil {
		return nil
	}
	if view.Trusting {
		said = append(said, fault.Caution{
			Text: fmt.Sprintf("firewalld has %s in its zone trusted, so boxes reach every port of this host", b.Profile.Network.Bridge),
			Hint: "\"boxrun host setup\" makes a zone that only lets them out"})
	}
	return append(said, strict(b, view)...)
}

// strict returns the caution for a firewalld with StrictForwardPorts, which rejects published ports of a box.
func strict(b *box.Box, view *netsetup.FirewalldView) []fault.Caution {
	ports := b.Profile.Network.PortsFor(b.Addr)
	if view == nil || !view.StrictPorts || len(ports) == 0 {
		return nil
	}
	return []fault.Caution{{
		Text: "firewalld has StrictForwardPorts=yes: it rejects published ports, the host's own connections to them included",
		Hint: fmt.Sprintf("set it to no in /etc/firewalld/firewalld.conf, or have firewalld let each port pass: "+
			"firewall-cmd --permanent --add-forward-port=port=%d:proto=%s:toport=%d:toaddr=%s; then firewall-cmd --reload",
			ports[0].Host, ports[0].Proto, ports[0].Container, b.Addr)}}
}
