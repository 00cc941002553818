package network

import (
	"boxrun/netsetup"
	"boxrun/profiles"
)

// hostWatch is the host's network as it was before a box began to boot in the same network.
type hostWatch struct {
	before netsetup.Snapshot
	on     bool // false: the box has its own network, and before is empty
}

// WatchHost records the host's network if the box is about to share the network; otherwise the watch is off.
func WatchHost(p profiles.Profile) (hostWatch, error) {
	if p.Network.Mode != profiles.HostMode {
		return hostWatch{}, nil
	}
	before, err := netsetup.Look()
	return hostWatch{before: before, on: true}, err
}

// Changes returns the differences of the host's network from before to now; nil if the watch is off. A person is told
// of changes, but boxrun reverts none: a change may be a lease just renewed by the host's own DHCP client.
func (w hostWatch) Changes() ([]netsetup.Change, error) {
	if !w.on {
		return nil, nil
	}
	now, err := netsetup.Look()
	if err != nil {
		return nil, err
	}
	return w.before.Changes(now), nil
}
