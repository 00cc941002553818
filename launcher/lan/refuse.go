package lan

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"boxrun/launcher/apptainer"
	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/netsetup"
	"boxrun/netsetup/lan"
	"boxrun/netsetup/six"
	"boxrun/profiles"
)

// Parent returns the name of the host's device on the LAN that the profile asks for; "" for a box elsewhere. A device
// that does not do is an ErrRefused.
func Parent(p profiles.Profile) (string, error) {
	if !p.Network.OnLAN() {
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
	case !parent.Ethernet:
		return parent, fault.Refused("name an Ethernet device that \"ip link\" shows", "%s: network.parent: %s is no Ethernet, which devices of "+
			"boxes need", p.File, name)
	case parent.Port:
		return parent, fault.Refused("name the bridge or the bond itself", "%s: network.parent: %s is a port of a bridge or a bond, and "+
			"takes no device of a box", p.File, name)
	case parent.Has(p.Network.Address.Addr()):
		return parent, hostsOwn(p, "address", p.Network.Address.Addr())
	case parent.Has(p.Network.Address6.Addr()):
		return parent, hostsOwn(p, "address6", p.Network.Address6.Addr())
	case p.Network.Address6.IsValid() && !six.Possible():
		return parent, fault.Refused("turn IPv6 on (sysctl net.ipv6.conf.all.disable_ipv6), or name no address of IPv6",
			"%s: network.address6: the host has no IPv6", p.File)
	case !parent.Up:
		return parent, fault.Refused(fmt.Sprintf("\"ip link set %s up\", and see that it is up after a boot", name),
			"%s: network.parent: %s is down", p.File, name)
	}
	return parent, nil
}

func hostsOwn(p profiles.Profile, key string, addr netip.Addr) error {
	return fault.Refused("choose an address that nobody has", "%s: network.%s: %s is the host's own", p.File, key, addr)
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
	if !p.Network.OnLAN() {
		return nil
	}
	for _, b := range others {
		key, addr := "address", p.Network.Address.Addr()
		if taken := b.LANAddrs(); !slices.Contains(taken, addr) {
			if key, addr = "address6", p.Network.Address6.Addr(); !slices.Contains(taken, addr) {
				continue
			}
		}
		return fault.Refused(fmt.Sprintf("choose another address, or run \"boxrun down %s\" first", b.Name),
			"%s: network.%s: %s is taken by box %q", p.File, key, addr, b.Name)
	}
	return nil
}

// InUse starts to ask the LAN who has the addresses of a profile, and returns the wait for the answers: the error is an
// ErrRefused with the MAC of a stranger. Nobody is asked for the present addresses of own, the box of the profile, nor for an
// address known to be taken.
func InUse(p profiles.Profile, own *box.Box, others []*box.Box) (wait func() error) {
	parent, err := Parent(p)
	if err != nil || parent == "" || RefuseTaken(p, others) != nil {
		return func() error { return nil }
	}
	n := p.Network
	four, six := inUse(p, parent, "address", n.Address.Addr(), own), inUse(p, parent, "address6", n.Address6.Addr(), own)
	return func() error { return errors.Join(<-four, <-six) }
}

// inUse starts to ask for the address of a key, and returns where the answer comes: one, nil for no address.
func inUse(p profiles.Profile, parent, key string, addr netip.Addr, own *box.Box) <-chan error {
	answer := make(chan error, 1)
	kept := own != nil && slices.Contains(own.LANAddrs(), addr) && own.Alive()
	if !addr.IsValid() || kept {
		answer <- nil
		return answer
	}
	go func() { answer <- refuseInUse(p, parent, key, addr) }()
	return answer
}

// refuseInUse asks the LAN of a device by the device, and by the host's way to boxes there: to the boxes of other programs
// on this host, the kernel passes nothing from the device itself.
func refuseInUse(p profiles.Profile, parent, key string, addr netip.Addr) error {
	devices := []string{parent}
	if way := (lan.Way{Parent: parent}).Device(); files.Exists("/sys/class/net/" + way) {
		devices = append(devices, way)
	}
	mac, err := lan.Asked(addr, devices...)
	if err != nil || mac == nil {
		return err
	}
	return fault.Refused("choose an address that nobody has, or find out by its MAC who has this one",
		"%s: network.%s: %s is in use on the LAN of %s, by %s", p.File, key, addr, parent, mac)
}

// RefusePlugins refuses a box on the LAN where Apptainer lacks a CNI plugin of its conflist. path is of the command,
// conf the text of the site's apptainer.conf.
func RefusePlugins(ctx context.Context, p profiles.Profile, path, conf string) error {
	if !p.Network.OnLAN() {
		return nil
	}
	libexec, err := apptainer.Libexec(ctx, path)
	if err != nil {
		return err
	}
	wanted := []string{"macvlan"}
	if p.Network.Address.IsValid() || p.Network.Address6.IsValid() {
		wanted = append(wanted, "static")
	}
	missing, where := apptainer.Missing("/", libexec, apptainer.Directive(conf, "cni plugin path"), wanted...)
	if len(missing) == 0 {
		return nil
	}
	return fault.Refused("install the package containernetworking-plugins, or set \"cni plugin path\" in apptainer.conf",
		"%s: network.%s: a LAN needs what Apptainer lacks: no %s in %s", p.File, keyOf(p.Network), strings.Join(missing, " and "), where)
}

// keyOf returns the key by which a profile asks for a LAN.
func keyOf(n profiles.Network) string {
	if n.Mode == profiles.LANMode {
		return "mode"
	}
	return "parent"
}

// Cautions returns a caution for a device known to drop packets of boxes on its LAN; none for "", a box elsewhere.
func Cautions(parent string) []fault.Caution {
	if parent == "" {
		return nil
	}
	why := lan.Drops("/", parent)
	if why == "" {
		return nil
	}
	return []fault.Caution{{Text: "nobody but this host may reach the box: " + why,
		Hint: "publish ports with network.mode = \"bridge\", or name another card as network.parent"}}
}
