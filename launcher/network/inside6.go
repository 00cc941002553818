package network

import (
	"fmt"
	"net/netip"

	"boxrun/launcher/box"
	"boxrun/launcher/list"
	"boxrun/netsetup"
	"boxrun/netsetup/dump"
	"boxrun/netsetup/led"
	"boxrun/netsetup/six"
)

// Inside6 returns IPv6 inside the box, nil for a box without.
func Inside6(b *box.Box) *six.Inside { return inside6(b, netsetup.Network.MACOfOwn) }

// inside6 is Inside6, with what tells the MAC of the gateway.
func inside6(b *box.Box, mac func(netsetup.Network) string) *six.Inside {
	if !b.Addr6().IsValid() {
		return nil
	}
	subnet6 := box.Subnet6(b.Profile.Network)
	n := netsetup.Network{Bridge: b.Profile.Network.Bridge, Subnet: b.Profile.Network.Subnet, Subnet6: subnet6}
	return &six.Inside{
		Device: BoxDevice, Prefix: netip.PrefixFrom(b.Addr6(), subnet6.Bits()), Gateway: n.Gateway6(), MAC: mac(n),
	}
}

// look looks into the network of each box, side by side.
func look(host *led.Host, boxes ...*box.Box) []netsetup.Seen {
	mac := func(n netsetup.Network) string { return host.MAC(n.Bridge, n.MACOfOwn) }
	return netsetup.LookInto(list.Map(boxes, func(b *box.Box) netsetup.Look {
		return netsetup.Look{PID: b.Init.PID, Device: BoxDevice, Six: inside6(b, mac)}
	})...)
}

// InsideDrift returns a line for each thing of IPv6 inside the box that is out of place.
func InsideDrift(b *box.Box) ([]string, error) {
	seen := look(new(led.Host), b)[0]
	return seen.Drift, seen.DriftErr
}

// ensureInside6 puts IPv6 inside the box in place, and tells its neighbours.
func ensureInside6(b *box.Box) error {
	inside := Inside6(b)
	if inside == nil {
		return nil
	}
	err := dump.InNetworkOf(b.Init.PID, func() error {
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
