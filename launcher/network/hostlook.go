package network

import (
	"boxrun/netsetup"
	"boxrun/profiles"
)

// HostLook is a look at the host's network from before a box boots in the same network.
type HostLook struct {
	before netsetup.Snapshot
	shared bool // false: the box has its own network, and before is empty
}

// LookAtHost looks at the host's network if a box of the profile shares the network.
func LookAtHost(p profiles.Profile) (HostLook, error) {
	if p.Network.Mode != profiles.HostMode {
		return HostLook{}, nil
	}
	before, err := netsetup.Look()
	return HostLook{before: before, shared: true}, err
}

// Difference returns the changes of the host's network since the look; nil for a box with its own network. Up tells
// of the changes and boxrun reverts none: a change may be a lease just renewed by the host's own DHCP client.
func (l HostLook) Difference() ([]netsetup.Change, error) {
	if !l.shared {
		return nil, nil
	}
	now, err := netsetup.Look()
	if err != nil {
		return nil, err
	}
	return l.before.Changes(now), nil
}
