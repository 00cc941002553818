package network

import (
	"errors"
	"fmt"
	"slices"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/netsetup"
	"boxrun/profiles"
)

// RefuseNetwork wants the bridge as the boxes on it have it, a subnet that is nobody else's, and an external
// interface that exists.
func RefuseNetwork(p profiles.Profile, others []*box.Box) error {
	n := p.Network
	if n.Mode != profiles.BridgeMode {
		return nil
	}
	mtu, err := BridgeMTU(n)
	if err != nil {
		return err
	}
	for _, b := range others {
		if err := Agree(n, b); err != nil {
			return err
		}
	}
	if err := netsetup.Overlap(netsetup.Network{Bridge: n.Bridge, Subnet: n.Subnet, MTU: mtu}); err != nil {
		return fault.Refused("choose another network.subnet, and with it another network.bridge", "%s: network.subnet: %v", p.File, err)
	}
	return nil
}

// Agree says where a profile wants another bridge than the box b, which is on it, has.
func Agree(n profiles.Network, b *box.Box) error {
	have := b.Profile.Network
	if !b.Bridged() || have.Bridge != n.Bridge {
		return nil
	}
	differs := func(key string, have, want any) error {
		return fault.Refused(fmt.Sprintf("use the same %s, or another bridge", key),
			"network.%s: %v, but box %q is on bridge %s with %v", key, want, b.Name, n.Bridge, have)
	}
	switch {
	case have.Subnet != n.Subnet:
		return differs("subnet", have.Subnet, n.Subnet)
	case have.MTU != n.MTU:
		return differs("mtu", have.MTU, n.MTU)
	case have.Offload != n.Offload:
		return differs("offload", have.Offload, n.Offload)
	}
	return nil
}

// RefusePorts wants the host's ports to be free: of other boxes, of listening processes, and of other people's DNAT.
// What the box itself has, where one of that name runs (own, nil for none), will be free when it is replaced.
func RefusePorts(k *netsetup.Kernel, p profiles.Profile, own *box.Box, others []*box.Box) error {
	if err := RefusePublished(p, others); err != nil {
		return err
	}
	ports, err := PublishedPorts(p.Network, p.Network.Ports...)
	if err != nil {
		return nil //nolint:nilerr // RefuseNetwork tells of an interface that is not there
	}
	holders, err := k.Taken(ports)
	if err != nil {
		return err
	}
	var errs []error
	var told []string
	for _, h := range holders {
		line := fmt.Sprintf("host port %d/%s is taken by %s", h.Number, h.Proto, h.By)
		if own.Holds(h.PID) || h.Passing || slices.Contains(told, line) { // up warns of the second
			continue
		}
		told = append(told, line) // once, on however many addresses
		errs = append(errs, fault.Refused("publish another host port, or free this one", "%s", line))
	}
	return errors.Join(errs...)
}

// RefusePublished names the box that publishes one of the profile's host ports already.
func RefusePublished(p profiles.Profile, others []*box.Box) error {
	var errs []error
	for _, b := range others {
		theirs := claimed(b.Profile.Network, p.Network.External, b.Profile.Network.Ports)
		for i, port := range p.Network.Ports {
			ours := claimed(p.Network, b.Profile.Network.External, []profiles.Port{port})
			if number, ok := Meet(ours, theirs); ok {
				errs = append(errs, fault.Refused(fmt.Sprintf("take another host port, or run \"boxrun down %s\" first", b.Name),
					"%s: network.ports[%d]: host port %d/%s is taken by box %q", p.File, i, number, port.Proto, b.Name))
			}
		}
	}
	return errors.Join(errs...)
}

// claimed gives ports of a profile where they are published, or may be: the addresses of network.external come and go, but
// beside another box's external interface they are apart from that one's, and on the same they are not.
func claimed(n profiles.Network, beside string, ports []profiles.Port) []netsetup.Port {
	published, err := PublishedPorts(n, ports...)
	if n.External == "" || err == nil && len(published) >= len(ports) && n.External != beside {
		return published
	}
	if beside != "" && n.External != beside {
		ports = slices.DeleteFunc(slices.Clone(ports), func(p profiles.Port) bool { return !p.HostIP.IsValid() })
	}
	return HostPorts(ports)
}

// Meet gives the first host port that both publish on one address.
func Meet(ours, theirs []netsetup.Port) (number uint16, ok bool) {
	for _, a := range ours {
		for _, b := range theirs {
			if number, ok = profiles.Port(a).Overlap(profiles.Port(b)); ok {
				return number, true
			}
		}
	}
	return 0, false
}
