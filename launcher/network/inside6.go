package network

import (
	"boxrun/launcher/box"
	"boxrun/netsetup"
)

// Inside6 returns IPv6 inside the box, nil for a box without.
func Inside6(b *box.Box) *netsetup.Inside6 {
	subnet6, err := box.Subnet6(b.Profile.Network)
	if err != nil || !b.Bridged() {
		return nil
	}
	return netsetup.Box{Subnet: b.Profile.Network.Subnet, Subnet6: subnet6, Addr: b.Addr}.Inside6(BoxDevice)
}

// RepairInside6 puts IPv6 inside the box in place, and returns a line for each thing that was not.
func RepairInside6(b *box.Box) (drift []string, err error) {
	inside := Inside6(b)
	if inside == nil {
		return nil, nil
	}
	err = netsetup.InNetworkOf(b.Init.PID, func() error {
		if drift, err = inside.Drift(); err != nil || len(drift) == 0 {
			return err
		}
		return inside.Ensure()
	})
	return drift, err
}
