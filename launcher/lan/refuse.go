package lan

import (
	"fmt"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/netsetup"
	"boxrun/netsetup/lan"
	"boxrun/profiles"
)

// Parent returns the name of the host's device on the LAN that the profile asks for; "" for a box elsewhere. A device
// that does not do is an ErrRefused.
func Parent(p profiles.Profile) (string, error) {
	if p.Network.Mode != profiles.LANMode {
		return "", nil
	}
	parent, err := look(p)
	return parent.Name, err
}

// look looks the device up, and refuses a device without a LAN, or without room for other MACs.
func look(p profiles.Profile) (lan.Parent, error) {
	name, err := deviceOf(p)
	if err != nil {
		return lan.Parent{}, err
	}
	parent, err := lan.LookParent(name)
	switch {
	case err != nil:
		return parent, err
	case parent.Loops:
		return parent, fault.Refused("name a device that \"ip link\" shows, such as that of \"ip route show default\"",
			"%s: network.parent: %s has no LAN: it is the loopback device", p.File, name)
	case parent.Port:
		return parent, fault.Refused("name the bridge or the bond itself", "%s: network.parent: %s is a port of a bridge or a bond, and "+
			"takes no device of a box", p.File, name)
	case parent.Has(p.Network.Address.Addr()):
		return parent, fault.Refused("choose an address that nobody has", "%s: network.address: %s is the host's own", p.File,
			p.Network.Address.Addr())
	}
	return parent, nil
}

// deviceOf returns the name of the device by which the kernel knows network.parent, or of the default route.
func deviceOf(p profiles.Profile) (string, error) {
	if p.Network.Parent != "" {
		external, err := netsetup.ExternalNamed(p.Network.Parent)
		if err != nil {
			err = fault.Refused("name a device that \"ip link\" shows", "%s: network.parent: %v", p.File, err)
		}
		return external.Name, err
	}
	external, err := netsetup.DefaultExternal()
	if err == nil && external.Name == "" {
		err = fault.Refused("name the device, as network.parent = \"eth0\"",
			"%s: network.mode: the host has no default route, whose device would be on the LAN", p.File)
	}
	return external.Name, err
}

// RefuseTaken refuses an address of the LAN that another box has.
func RefuseTaken(p profiles.Profile, others []*box.Box) error {
	if p.Network.Mode != profiles.LANMode || !p.Network.Address.IsValid() {
		return nil
	}
	for _, b := range others {
		if b.OnLAN() && b.Addr == p.Network.Address.Addr() {
			return fault.Refused(fmt.Sprintf("choose another address, or run \"boxrun down %s\" first", b.Name),
				"%s: network.address: %s is taken by box %q", p.File, b.Addr, b.Name)
		}
	}
	return nil
}
