package network

import (
	"context"
	"fmt"
	"slices"

	"boxrun/launcher/box"
	"boxrun/netsetup"
	"boxrun/profiles"
)

// Republishes reports whether a profile publishes other ports than a running box does, or for other clients.
func Republishes(b *box.Box, p profiles.Profile) bool {
	have, want := b.Profile.Network, p.Network
	return !slices.Equal(have.Ports, want.Ports) || !slices.Equal(have.AllowFrom, want.AllowFrom)
}

// Republish has a running box publish the ports of a profile for the clients of the profile, and returns a line for each key
// that changed: none where the box does so already. The profile is that of the box but for ports, clients and limits. New
// rules replace the old ones at once. The refusals are those of a start; the box then publishes as before. The caller holds
// the lock of the box.
func Republish(ctx context.Context, s *box.Store, k *netsetup.Kernel, b *box.Box, p profiles.Profile) ([]string, error) {
	if !Republishes(b, p) {
		return nil, nil
	}
	unlock, err := s.LockNetwork(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := refuseRepublish(s, k, b, p); err != nil {
		return nil, err
	}
	lines := republished(b.Profile.Network, p.Network)
	p.Resources = b.Profile.Resources
	b.Profile.Network.Ports, b.Profile.Network.AllowFrom, b.Hash = p.Network.Ports, p.Network.AllowFrom, p.Hash()
	if err := s.Save(b); err != nil {
		return nil, err
	}
	return lines, Publish(s, k, b)
}

// refuseRepublish refuses ports that a start of the profile would be refused for.
func refuseRepublish(s *box.Store, k *netsetup.Kernel, b *box.Box, p profiles.Profile) error {
	others, err := s.Others(b.Name)
	if err != nil {
		return err
	}
	if err := RefuseSCTP(p); err != nil {
		return err
	}
	external, err := ExternalAtStart(p.Network)
	if err != nil {
		return err
	}
	return RefusePorts(k, p, external, b, others)
}

// republished returns a line for each key that differs.
func republished(have, want profiles.Network) []string {
	var lines []string
	if !slices.Equal(have.Ports, want.Ports) {
		lines = append(lines, fmt.Sprintf("network.ports: %v, was %v", want.Ports, have.Ports))
	}
	if !slices.Equal(have.AllowFrom, want.AllowFrom) {
		lines = append(lines, fmt.Sprintf("network.allow_from: %v, was %v", want.AllowFrom, have.AllowFrom))
	}
	return lines
}

// Republished returns the box as Republish would make it, for commands that a person types. Nothing is changed.
func Republished(s *box.Store, k *netsetup.Kernel, b *box.Box, p profiles.Profile) (*box.Box, error) {
	if !Republishes(b, p) {
		return b, nil
	}
	if err := refuseRepublish(s, k, b, p); err != nil {
		return nil, err
	}
	next := *b
	next.Profile.Network.Ports, next.Profile.Network.AllowFrom = p.Network.Ports, p.Network.AllowFrom
	rules, err := BoxRules(&next)
	if err != nil {
		return nil, err
	}
	next.Ports = netsetup.Ports(rules)
	next.Ports.Inherit(b.Ports)
	return &next, nil
}
