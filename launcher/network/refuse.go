package network

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/netsetup"
	"boxrun/profiles"
	"boxrun/profiles/port"
)

// RefuseNetwork requires a bridge with the same settings as for other boxes on the bridge, a subnet in use by nobody
// else.
func RefuseNetwork(p profiles.Profile, others []*box.Box) error {
	n := p.Network
	if n.Mode != profiles.BridgeMode {
		return nil
	}
	for _, b := range others {
		if err := Agree(n, b); err != nil {
			return err
		}
	}
	if err := refuse6(p); err != nil {
		return err
	}
	err := netsetup.Overlap(netsetup.Network{Bridge: n.Bridge, Subnet: n.Subnet, Subnet6: box.Subnet6(n)})
	if errors.Is(err, netsetup.ErrNoBridge) {
		return noBridge(p, err)
	}
	if err != nil {
		return fault.Refused("choose another network.subnet, and with it another network.bridge", "%s: network.subnet: %v", p.File, err)
	}
	return nil
}

// RefuseBridge refuses a network.bridge that names another device of this host.
func RefuseBridge(p profiles.Profile) error {
	if p.Network.Mode != profiles.BridgeMode {
		return nil
	}
	err := netsetup.NamesBridge(p.Network.Bridge)
	if errors.Is(err, netsetup.ErrNoBridge) {
		return noBridge(p, err)
	}
	return err
}

// noBridge returns the refusal for an ErrNoBridge.
func noBridge(p profiles.Profile, err error) error {
	return fault.Refused("choose another network.bridge, by the name that \"ip link\" shows first", "%s: network.bridge: %v", p.File, err)
}

// Agree refuses a profile with other bridge settings than box b, if b is on the same bridge.
func Agree(n profiles.Network, b *box.Box) error {
	have := b.Profile.Network
	if !b.Bridged() || have.Bridge != n.Bridge {
		return nil
	}
	have.Marks = cmp.Or(have.Marks, profiles.Default().Network.Marks) // older boxruns kept no marks
	for _, s := range []struct {
		key        string
		have, want any
	}{
		{"subnet", have.Subnet, n.Subnet}, {"subnet6", have.Subnet6, n.Subnet6}, {"mtu", have.MTU, n.MTU},
		{"marks", have.Marks, n.Marks},
	} {
		if s.have != s.want {
			return fault.Refused(fmt.Sprintf("use the same %s, or another bridge", s.key),
				"network.%s: %v, but box %q is on bridge %s with %v", s.key, s.want, b.Name, n.Bridge, s.have)
		}
	}
	return nil
}

// RefusePorts requires host ports free of other boxes, of listening processes, and of other people's DNAT. Ports held
// by a running box of the same name (own, nil for none) do not count: they will be free when the box is replaced.
// external is the result of ExternalAtStart.
func RefusePorts(
	k *netsetup.Kernel, p profiles.Profile, external netsetup.External, own *box.Box, others []*box.Box,
) error {
	if err := RefusePublished(p, others); err != nil {
		return err
	}
	holders, err := k.Taken(claims(p.Network, publishedOn(p.Network, external, p.Network.Ports)))
	if err != nil {
		return err
	}
	var errs []error
	var told []string
	for _, h := range holders {
		line := fmt.Sprintf("host port %d/%s is taken by %s", h.Number, h.Proto, h.By)
		if own.Holds(h.PID) || h.Passing || slices.Contains(told, line) { // up warns of Passing holders
			continue
		}
		told = append(told, line) // a single line for any number of addresses
		errs = append(errs, fault.Refused("publish another host port, or free this one", "%s", line))
	}
	return errors.Join(errs...)
}

// RefusePublished refuses host ports already published by another box, and names the box.
func RefusePublished(p profiles.Profile, others []*box.Box) error {
	var errs []error
	for _, b := range others {
		theirs := claimed(b.Profile.Network, p.Network.External, b.Profile.Network.Ports)
		for i, wanted := range p.Network.Ports {
			ours := claimed(p.Network, b.Profile.Network.External, []port.Port{wanted})
			if number, ok := Meet(ours, theirs); ok {
				errs = append(errs, fault.Refused(fmt.Sprintf("take another host port, or run \"boxrun down %s\" first", b.Name),
					"%s: network.ports[%d]: host port %d/%s is taken by box %q", p.File, i, number, wanted.Proto, b.Name))
			}
		}
	}
	return errors.Join(errs...)
}

// claimed returns the addresses and ports a profile may occupy, seen from a box with external interface beside. The
// addresses of network.external come and go. So two boxes on the same interface always conflict, on every address. On
// different interfaces their addresses are apart, and only present addresses count.
func claimed(n profiles.Network, beside string, ports []port.Port) []netsetup.Port {
	published, err := PublishedPorts(n, ports...)
	apart := deviceOf(n.External) != deviceOf(beside)
	if n.External == "" || err == nil && len(published) >= len(ports) && apart {
		return published
	}
	if beside != "" && apart {
		ports = slices.DeleteFunc(slices.Clone(ports), func(p port.Port) bool { return !p.HostIP.IsValid() })
	}
	return HostPorts(ports)
}

// deviceOf returns the first name of an interface, for an alternative name too. The name of a missing interface is
// returned as it is.
func deviceOf(name string) string {
	if name == "" {
		return ""
	}
	external, err := netsetup.ExternalNamed(name)
	if err != nil {
		return name
	}
	return external.Name
}

// Meet returns the first host port both lists publish on the same address.
func Meet(ours, theirs []netsetup.Port) (number uint16, ok bool) {
	for _, a := range ours {
		for _, b := range theirs {
			if number, ok = port.Port(a).Overlap(port.Port(b)); ok {
				return number, true
			}
		}
	}
	return 0, false
}
