package netsetup

import (
	"errors"
	"fmt"
	"net/netip"

	"boxrun/netsetup/led"
	"boxrun/netsetup/six"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Host6 plans what serves all bridges with IPv6. The plan of [Host] must be in place.
func Host6() Plan {
	p := Plan{
		Owner:   hostOwner,
		Modules: []Modules{{Names: []string{"ip6table_mangle", "ip6table_filter", "ip6table_nat"}, Legacy: true}},
		Sysctls: forceForwarding(),
		Chains6: hostChains(),
		Rules6:  hostRules(v6),
	}
	if p.Sysctls == nil {
		p.Advertisements, p.Sysctls = &Advertisements{}, []Sysctl{forwarding6()}
	}
	return p
}

// forceForwarding are the settings by which a host forwards and is no router in any other way: the host goes on to
// believe advertisements of routers, and nobody else relies on the settings. The result is nil on kernels before 6.17,
// which lack the settings.
func forceForwarding() []Sysctl {
	all := Sysctl{
		Key:   deviceKey6("all", "force_forwarding"),
		Value: "1",
		Drags: []string{"/proc/sys/net/ipv6/conf/*/force_forwarding"},
		Own:   true,
	}
	if _, err := readSysctl(all.Key); err != nil {
		return nil
	}
	return []Sysctl{all, {Key: deviceKey6("default", "force_forwarding"), Value: "1", Own: true}}
}

// forwarding6 makes the host a router. With a change of the setting the kernel sets each device alike.
func forwarding6() Sysctl {
	return Sysctl{
		Key:   deviceKey6("all", "forwarding"),
		Value: "1",
		Drags: []string{"/proc/sys/net/ipv6/conf/*/forwarding"},
	}
}

// bridgeSettings6 are the settings of a bridge for IPv6. The host believes no advertisement of a box. The bridge's
// link-local address, from which the host asks for the MACs of boxes, is used at once, too: a host with a detection of
// duplicates asks nothing for the two seconds after the first port.
func bridgeSettings6(bridge string) []Sysctl {
	forward := Sysctl{Key: deviceKey6(bridge, "forwarding"), Value: "1"}
	if forceForwarding() != nil {
		forward.Key = deviceKey6(bridge, "force_forwarding")
	}
	return []Sysctl{{Key: deviceKey6(bridge, "disable_ipv6"), Value: "0"}, {Key: deviceKey6(bridge, "accept_ra"), Value: "0"}, {Key: deviceKey6(bridge, "accept_dad"), Value: "0"}, forward}
}

// deviceKey6 returns the key of an IPv6 setting of a device. "all" and "default" are devices here.
func deviceKey6(device, setting string) string {
	return keyOf("/proc/sys/net/ipv6/conf/" + device + "/" + setting)
}

// Advertisements is the step after which each device that believes advertisements of routers (accept_ra 1) goes on to do
// so while the host forwards (2). The kernel would delete the host's default route otherwise, at the moment at which
// forwarding begins.
type Advertisements struct {
	Keys   []string  `json:"keys,omitempty"` // the settings to change
	Before []Setting `json:"before,omitempty"`
}

func (a *Advertisements) String() string { return "sysctl accept_ra" }

func (a *Advertisements) commands() (up, down []string) {
	return []string{"for i in $(grep -lx 1 /proc/sys/net/ipv6/conf/*/accept_ra); do echo 2 > $i; done"}, typed(a.Before)
}

func (a *Advertisements) record(*Kernel) error {
	a.Keys, a.Before = nil, nil
	devices, err := six.Believing()
	for _, device := range devices {
		key := deviceKey6(device, "accept_ra")
		a.Keys, a.Before = append(a.Keys, key), append(a.Before, Setting{key, "1"})
	}
	return err
}

// unset returns the settings that are 1. Other values are the wish of whoever set them.
func (a *Advertisements) unset() ([]string, error) {
	var unset []string
	for _, key := range a.Keys {
		value, err := readSysctl(key)
		if ignoreAbsent(err) != nil {
			return nil, err
		}
		if value == "1" {
			unset = append(unset, key)
		}
	}
	return unset, nil
}

func (a *Advertisements) check(*Kernel) ([]string, error) {
	unset, err := a.unset()
	var drift []string
	for _, key := range unset {
		drift = append(drift, fmt.Sprintf("sysctl %s is 1, with which no router is believed while the host forwards", key))
	}
	return drift, err
}

func (a *Advertisements) ensure(*Kernel) error {
	unset, err := a.unset()
	for _, key := range unset {
		err = errors.Join(err, ignoreAbsent(writeSysctl(key, "2")))
	}
	return err
}

func (a *Advertisements) undo(*Kernel) error { return restoreSettings(a.Before) }

func (a *Advertisements) settle() []string {
	lines := stays(a.Before, "2")
	a.Before = nil
	return lines
}

// Address is an IPv6 address of a device. The address is used at once, without detection of duplicates (nodad): a bridge
// without ports would otherwise wait for its first port, and the first box would wait two seconds for its gateway.
type Address struct {
	Device string       `json:"device"`
	Prefix netip.Prefix `json:"prefix"`
	Had    bool         `json:"had,omitempty"` // the device had the address before
}

func (a *Address) String() string { return fmt.Sprintf("address %s of %s", a.Prefix, a.Device) }

// commands do not fail at the end where the address has gone with its device.
func (a *Address) commands() (up, down []string) {
	if a.Had {
		return nil, nil
	}
	return []string{fmt.Sprintf("ip addr add %s dev %s nodad", a.Prefix, a.Device)},
		[]string{fmt.Sprintf("ip addr del %s dev %s", a.Prefix, a.Device)}
}

func (a *Address) record(k *Kernel) error {
	link, err := k.linkByName(a.Device)
	if err == nil && link != nil {
		a.Had, err = six.OnLink(k.link, link, a.Prefix)
	}
	return err
}

func (a *Address) check(k *Kernel) ([]string, error) {
	link, err := k.linkByName(a.Device)
	if err != nil {
		return nil, err
	}
	var drift []string
	for _, p := range a.wanted(link) {
		on := false
		if link != nil {
			on, err = six.OnLink(k.link, link, p)
		}
		if err != nil {
			return nil, err
		}
		if !on {
			drift = append(drift, fmt.Sprintf("%s lacks the address %s", a.Device, p))
		}
	}
	if len(drift) > 0 {
		return drift, nil
	}
	lists, err := k.readLists(v6)
	if err != nil {
		return nil, err
	}
	return led.Faults(link.Attrs(), lists.Routes, a.Prefix), nil
}

// wanted returns the address, and of a bridge of boxrun's the link-local address as well, which the kernel makes with the
// bridge: the host asks for the MACs of boxes from there. link is nil for a device that is not there.
func (a *Address) wanted(link netlink.Link) []netip.Prefix {
	if link == nil || link.Attrs().Alias != bridgeAlias(a.Device) {
		return []netip.Prefix{a.Prefix}
	}
	return []netip.Prefix{a.Prefix, six.LinkLocal(link.Attrs().HardwareAddr)}
}

func (a *Address) ensure(k *Kernel) error {
	link, err := k.link.LinkByName(a.Device)
	if err != nil {
		return err
	}
	for _, p := range a.wanted(link) {
		if err := six.AddTo(k.link, link, p); err != nil {
			return err
		}
	}
	return k.lead(link, a.Prefix)
}

func (a *Address) undo(k *Kernel) error {
	link, err := k.linkByName(a.Device)
	if err != nil || link == nil || a.Had {
		return err
	}
	return ignore(k.link.AddrDel(link, addrOn(a.Prefix)), unix.EADDRNOTAVAIL)
}
