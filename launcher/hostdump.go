package launcher

import (
	"boxrun/netsetup"
	"boxrun/profiles"
)

// hostWatch is the host's network as it was before a box began to boot in it.
type hostWatch struct {
	before netsetup.Snapshot
	on     bool // false: the box has a network of its own, and nothing was looked at
}

// watchHost looks at the host's network if the box is about to share it.
func watchHost(p profiles.Profile) (hostWatch, error) {
	if p.Network.Mode != profiles.HostMode {
		return hostWatch{}, nil
	}
	before, err := netsetup.Look()
	return hostWatch{before: before, on: true}, err
}

// changes gives what is different by now. It is told to a person and not reverted: it may be a lease that the host's own
// DHCP client has just renewed.
func (w hostWatch) changes() ([]netsetup.Change, error) {
	if !w.on {
		return nil, nil
	}
	now, err := netsetup.Look()
	if err != nil {
		return nil, err
	}
	return w.before.Changes(now), nil
}
