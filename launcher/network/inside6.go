package network

import (
	"fmt"
	"net/netip"

	"boxrun/launcher/box"
	"boxrun/netsetup"
	"boxrun/netsetup/six"
)

// Inside6 returns IPv6 inside the box, nil for a box without.
func Inside6(b *box.Box) *six.Inside {
	if !b.Addr6().IsValid() {
		return nil
	}
	subnet6 := box.Subnet6(b.Profile.Network)
	n := netsetup.Network{Bridge: b.Profile.Network.Bridge, Subnet: b.Profile.Network.Subnet, Subnet6: subnet6}
	return &six.Inside{
		Device: BoxDevice, Prefix: netip.PrefixFrom(b.Addr6(), subnet6.Bits()), Gateway: n.Gateway6(), MAC: n.MACOfOwn(),
	}
}

// InsideDrift returns a line for each thing of IPv6 inside the box that is out of place.
func InsideDrift(b *box.Box) (drift []string, err error) {
	inside := Inside6(b)
	if inside == nil {
		return nil, nil
	}
	err = netsetup.InNetworkOf(b.Init.PID, func() error {
		drift, err = inside.Drift()
		return err
	})
	return drift, err
}

// repairInside6 puts IPv6 inside the box in place, and returns a line for each thing that was not.
func repairInside6(b *box.Box) ([]string, error) {
	drift, err := InsideDrift(b)
	if err == nil && len(drift) > 0 {
		err = ensureInside6(b)
	}
	return drift, err
}

// ensureInside6 puts IPv6 inside the box in place, and tells its neighbours.
func ensureInside6(b *box.Box) error {
	inside := Inside6(b)
	if inside == nil {
		return nil
	}
	err := netsetup.InNetworkOf(b.Init.PID, func() error {
		if err := inside.Ensure(); err != nil {
			return err
		}
		return inside.Announce()
	})
	if err != nil {
		return fmt.Errorf("giving box %s its IPv6 address: %w", b.Name, err)
	}
	return nil
}
