package doctor

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"boxrun/launcher/box"
	"boxrun/launcher/conf"
	"boxrun/launcher/enter"
	"boxrun/launcher/fault"
	"boxrun/launcher/lan"
	"boxrun/launcher/machine"
	"boxrun/launcher/network"
	"boxrun/launcher/passage"
	"boxrun/launcher/storage"
	"boxrun/netsetup"
)

// boxLooks looks at a box.
type boxLooks struct {
	*facts
	*box.Box
}

// list returns the looks at the box. The looks follow a packet into the box, port by port and in the order of the
// packet's way, and then a packet out of the box. A box that does not run has none. A box
// without a bridge has no rules, so only its listening ports are looked at.
func (b boxLooks) list() []look {
	if !b.Alive() {
		return nil
	}
	looks := []look{one(b.Name, "confinement", b.confinement), one(b.Name, "name servers", b.servers)}
	if b.Overlay() != "" {
		looks = append(looks, one(b.Name, "overlay", b.overlay))
	}
	if machine.Wanted(b.Box) {
		looks = append(looks, one(b.Name, "machine", b.machine))
	}
	if b.OnLAN() {
		looks = append(looks, look{area: b.Name, name: "LAN", run: withKernel(b.store, b.lan)})
	}
	if !b.Bridged() {
		for _, p := range b.Profile.Network.PortsFor(b.Addr) {
			looks = append(looks, one(b.Name, b.ShownPort(p)+" listens", portLooks{b, p, b.Addr}.listens))
		}
		return looks
	}
	looks = append(looks,
		one(b.Name, "address", b.address),
		look{area: b.Name, name: "rules", run: withKernel(b.store, b.rules)},
		look{area: b.Name, name: "way of answers", run: withKernel(b.store, b.answers)},
		one(b.Name, "names of others", b.hosts))
	for _, addr := range b.Addrs() {
		for _, p := range passage.Admitted(b.Box, addr) {
			looks = append(looks, portLooks{b, p, addr}.list()...)
		}
	}
	return append(looks, b.outward()...)
}

// confinement says whether the box is held apart from the host as its profile says. The check tries ways to the host
// from inside the box.
func (b boxLooks) confinement(ctx context.Context) Check {
	s := b.Profile.Security
	if !s.Confined() {
		return pass("none: root in the box is root of the host, by security.level = \"host\"")
	}
	open, err := enter.RefOf(b.store, b.Box).Try(ctx, s)
	switch {
	case err != nil:
		return skip("%v", err)
	case len(open) > 0:
		return fail("root in the box reaches the host", "boxrun restart "+b.Name,
			"the level %s closes what is open: %s", s.Level, strings.Join(open, ", "))
	}
	return pass("as of the level %s: no clock, device, setting, log or module of the host is in reach", s)
}

// machine says whether machined knows the box.
func (b boxLooks) machine(context.Context) Check {
	if lines := machine.Drift(b.Box); len(lines) > 0 {
		return fail("machinectl, systemctl -M and journalctl -M do not find the box", network.RepairCommand, "%s", lines[0])
	}
	return pass("machinectl knows the box")
}

// overlay says whether the box has its overlay alone.
func (b boxLooks) overlay(context.Context) Check {
	if o, ok := storage.TakenOver(b.Box); ok {
		return fail("two machines write one overlay: what both write is lost, or worse",
			"boxrun down "+b.Name,
			"%q was taken over by box %q on the machine %s", b.Overlay(), o.Box, o.Host)
	}
	return pass("%q is its own", b.Overlay())
}

// address says whether the box has the address to which its rules send packets.
func (b boxLooks) address(context.Context) Check {
	moved, err := network.Moved(b.store, b.Box)
	switch {
	case errors.Is(err, netsetup.ErrNoAddress):
		return fail("nobody reaches it", "boxrun restart "+b.Name, "%v", err)
	case err != nil:
		return broken(err)
	case moved != "":
		return fail("what is published goes to an address the box does not have", network.RepairCommand, "%s", moved)
	}
	inside, err := network.InsideDrift(b.Box)
	switch {
	case err != nil:
		return broken(err)
	case len(inside) > 0:
		return fail("the box has no IPv6, or not alone from boxrun", network.RepairCommand, "in the box %s", strings.Join(inside, "; "))
	}
	const unreached = "neither the host nor its clients reach the box"
	held, lost, err := network.Misled(b.Box)
	switch {
	case err != nil:
		return broken(err)
	case len(held) > 0:
		return fail(unreached, network.RepairCommand, "%s", strings.Join(held, "; "))
	case len(lost) > 0:
		return fail(unreached, lost[0].Hint, "%s", lost[0].Text)
	}
	return pass("%s on %s, as its rules have it", b.Addr, b.Profile.Network.Bridge)
}

// lan says whether the host leads to the box at its address, and whether the LAN is known to drop packets of the box.
func (b boxLooks) lan(k *netsetup.Kernel) []Check {
	drift, err := lan.Drift(k, b.Box)
	if errors.Is(err, netsetup.ErrNoAddress) {
		return []Check{fail("nobody reaches it", fault.HintOf(err), "%v", err)}
	}
	said := lan.Cautions(b.Parent)
	switch {
	case err != nil:
		return []Check{broken(err)}
	case len(drift) > 0:
		return []Check{fail("the host or others do not reach it", network.RepairCommand, "%s", strings.Join(drift, "; "))}
	case len(b.LANAddrs()) == 0:
		return []Check{warn("nobody reaches it", "boxrun logs "+b.Name, "no DHCP client in the box has got an address of the LAN of %s", b.Parent)}
	case len(said) > 0:
		return []Check{warn("the box has a MAC of its own", said[0].Hint, "%s", said[0].Text)}
	}
	return []Check{pass("%s, and the host leads there", b.WhereOnLAN())}
}

// rules compares the rules and devices made for the box with its plan.
func (b boxLooks) rules(k *netsetup.Kernel) []Check {
	off, err := network.Offload(k, b.Box)
	if err != nil {
		return []Check{broken(err)}
	}
	said := cmp.Or(strings.Join(off, "; "), "left to devices: nothing asks for it off")
	return checkTopics(k, []topic{
		{"rules", "in place", "they let in what is published, and nothing else",
			func(p plan) plan {
				return plan{Owner: p.Owner, Chains: p.Chains, Rules: p.Rules, Chains6: p.Chains6, Rules6: p.Rules6}
			}},
		{"offload", said, "some network cards drop forwarded packets whose checksums were left to them: connections open and then hang",
			func(p plan) plan { return plan{Features: p.Features, Outward: p.Outward} }},
		{"port of the bridge", "on the bridge, up, with hairpin", "off the bridge nobody reaches the box, and without hairpin it does not reach its own published ports",
			func(p plan) plan { return plan{Plug: p.Plug} }},
	}, []netsetup.Plan{b.Ports})
}

// servers says whether the box asks the name servers that a start would choose now.
func (b boxLooks) servers(context.Context) Check {
	line, err := conf.ServersDrift(b.store, b.Box)
	switch {
	case err != nil:
		return broken(err)
	case line != "":
		return fail("names do not resolve in the box if the old servers are gone", network.RepairCommand, "%s", line)
	}
	return pass("as its profile and its host have them")
}

// answers asks the kernel whether what is published answers where the host does: without traffic, as a client beyond a
// router of each uplink would see.
func (b boxLooks) answers(k *netsetup.Kernel) []Check {
	var astray, unjudged []string
	for _, inside := range b.Addrs() {
		ports, err := network.PublishedPorts(b.Profile.Network, b.Profile.Network.PortsFor(inside)...)
		if err != nil {
			return []Check{broken(err)}
		}
		lost, lostErr := k.Astray(b.Profile.Network.Bridge, inside, func(addr netip.Addr) bool {
			return slices.ContainsFunc(ports, func(p netsetup.Port) bool { return !p.HostIP.IsValid() || p.HostIP == addr })
		})
		unclear, unclearErr := k.Unjudged(inside)
		if err := cmp.Or(lostErr, unclearErr); err != nil {
			return []Check{broken(err)}
		}
		astray, unjudged = append(astray, lost...), append(unjudged, unclear...)
	}
	switch {
	case len(astray) > 0:
		return []Check{fail("clients of that address hang: their routers drop what comes from elsewhere", network.RepairCommand, "%s", strings.Join(astray, "; "))}
	case len(unjudged) > 0:
		return []Check{warn("what such a rule leads elsewhere on the host it leads not, or not alike, for boxes",
			"add a rule by address beside it: ip rule add from ADDRESS lookup TABLE",
			"boxrun cannot plan answers by %s", strings.Join(unjudged, "; "))}
	}
	return []Check{pass("leave as the host's own do, or where they were asked")}
}

// hosts says whether the hosts file of the box names the other boxes on its bridge. The check is skipped if the
// state of any box cannot be read: that box may be on the bridge.
func (b boxLooks) hosts(context.Context) Check {
	line, err := conf.NamesDrift(b.store, b.Box, b.boxes)
	switch {
	case len(b.unread) > 0:
		return skip("there is a box that cannot be read: %s", b.unread[0])
	case err != nil:
		return broken(err)
	case line != "":
		return fail("boxes of one bridge find each other by name", network.RepairCommand, "%s", line)
	}
	return pass("as the boxes are")
}
