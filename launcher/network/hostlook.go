package network

import (
	"boxrun/netsetup/snapshot"
	"boxrun/profiles"
)

// LookAtHost looks at the host's network from before a box of the profile boots in the same network. changes returns the
// changes of the host's network since the look; nil for a box with its own network. Up tells of the changes and boxrun
// reverts none: a change may be a lease just renewed by the host's own DHCP client.
func LookAtHost(p profiles.Profile) (changes func() ([]snapshot.Change, error), err error) {
	if p.Network.Mode != profiles.HostMode {
		return func() ([]snapshot.Change, error) { return nil, nil }, nil
	}
	before, err := snapshot.Look()
	return func() ([]snapshot.Change, error) {
		now, err := snapshot.Look()
		if err != nil {
			return nil, err
		}
		return before.Changes(now), nil
	}, err
}
