package network

import (
	"boxrun/launcher/box"
	"boxrun/netsetup"
	"boxrun/netsetup/offload"
	"boxrun/profiles"
)

// Offload returns a line for each direction in which checksums of the box's packets are not left to devices, with the
// reason: the profile, or an uplink of the host by name and driver.
func Offload(k *netsetup.Kernel, b *box.Box) ([]string, error) {
	if !b.Bridged() {
		return nil, nil
	}
	mode, need, err := offload.Mode(b.Profile.Network.Offload), offload.Need{}, error(nil)
	if mode == offload.Auto {
		need, err = k.Uplinks()
	}
	return mode.Tell(b.Veth, BoxDevice, need), err
}

// NeedOf returns what the uplinks of the host need; nothing for a profile that does not ask.
func NeedOf(n profiles.Network) (offload.Need, error) {
	if n.Mode != profiles.BridgeMode || offload.Mode(n.Offload) != offload.Auto {
		return offload.Need{}, nil
	}
	return offload.OfHost()
}

// Outward returns the device inside a box that is to send packets with their checksums from the first on; "" for a box
// that leaves them to others. need is the result of NeedOf.
func Outward(n profiles.Network, need offload.Need) string {
	if n.Mode == profiles.BridgeMode && (offload.Mode(n.Offload).Out() || len(need.Out) > 0) {
		return BoxDevice
	}
	return ""
}
