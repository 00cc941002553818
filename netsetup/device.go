package netsetup

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"boxrun/netsetup/dump"
	"boxrun/netsetup/led"
	"boxrun/netsetup/rules"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Device is a bridge, made by boxrun or taken as found. A bridge of boxrun's has the plan's owner as its alias, which
// "ip link" shows, and so is known again even when all records are lost.
type Device struct {
	Name    string       `json:"name"`
	Address netip.Prefix `json:"address"` // the bridge's own, with the length of the subnet
	MTU     int          `json:"mtu,omitempty"`
	MAC     string       `json:"mac"` // fixed: else the MAC would change as ports come and go
	Alias   string       `json:"alias"`
	Found   *Found       `json:"found,omitempty"` // somebody else's bridge: the bridge stays

	leaving string // the veth of a box that has ended, which keeps no bridge; "" for none
}

// Found is how somebody else's bridge was before boxrun used the bridge. The CNI bridge plugin sets the last two.
type Found struct {
	Up        bool      `json:"up"`
	Addressed bool      `json:"addressed"` // the bridge had the address
	Promisc   bool      `json:"promisc"`
	Before    []Setting `json:"before,omitempty"`
}

func (d *Device) String() string { return "bridge " + d.Name }

func (d *Device) commands() (up, down []string) {
	mtu := rules.WordsIf(d.MTU > 0, " mtu %d", d.MTU)
	address := fmt.Sprintf("ip addr add %s brd + dev %s", d.Address, d.Name)
	raise := fmt.Sprintf("ip link set %s up", d.Name)
	if d.Found != nil {
		return d.foundCommands(address, raise)
	}
	add := fmt.Sprintf("ip link add %s address %s%s type bridge", d.Name, d.MAC, mtu)
	alias := fmt.Sprintf("ip link set %s alias %s", d.Name, d.Alias)
	return []string{add, alias, address, raise}, []string{"ip link del " + d.Name}
}

// foundCommands are the commands for somebody else's bridge: add what the bridge lacks, and take the same away.
func (d *Device) foundCommands(address, raise string) (up, down []string) {
	if !d.Found.Addressed {
		up = append(up, address)
		down = append(down, fmt.Sprintf("ip addr del %s dev %s", d.Address, d.Name))
	}
	if !d.Found.Promisc {
		down = append(down, fmt.Sprintf("ip link set %s promisc off", d.Name))
	}
	if !d.Found.Up {
		up = append(up, raise)
		down = append(down, fmt.Sprintf("ip link set %s down", d.Name))
	}
	return up, append(down, typed(d.Found.Before)...)
}

// record refuses a device of the same name that is no bridge, or has other addresses.
func (d *Device) record(k *Kernel) error {
	d.Found = nil
	link, err := k.linkByName(d.Name)
	if link == nil || err != nil {
		return err
	}
	if link.Type() != "bridge" {
		return fmt.Errorf("it exists and is no bridge but a %s device", link.Type())
	}
	addressed, others, err := d.addressed(k, link)
	if err != nil || link.Attrs().Alias == d.Alias {
		return err
	}
	if !addressed && len(others) > 0 {
		return fmt.Errorf("it exists with the address %s instead of %s", others[0].IPNet, d.Address)
	}
	up, promisc := link.Attrs().Flags&net.FlagUp != 0, link.Attrs().Promisc > 0
	d.Found = &Found{Up: up, Addressed: addressed, Promisc: promisc}
	ra := keyOf("/proc/sys/net/ipv6/conf/" + d.Name + "/accept_ra")
	if value, err := readSysctl(ra); err == nil {
		d.Found.Before = []Setting{{ra, value}}
	}
	return nil
}

// addressed reports whether the bridge has its address, and returns all addresses of the bridge.
func (d *Device) addressed(k *Kernel, link netlink.Link) (bool, []netlink.Addr, error) {
	addrs, err := dump.Addrs(k.link, link, netlink.FAMILY_V4)
	if err != nil {
		return false, nil, fmt.Errorf("reading the addresses: %w", err)
	}
	ours := func(a netlink.Addr) bool { return dump.PrefixOf(a.IPNet) == d.Address }
	return slices.ContainsFunc(addrs, ours), addrs, nil
}

func (d *Device) check(k *Kernel) ([]string, error) {
	link, err := k.linkByName(d.Name)
	if err != nil {
		return nil, err
	}
	if link == nil {
		return d.absence(k)
	}
	addressed, _, err := d.addressed(k, link)
	if err != nil {
		return nil, err
	}
	var drift []string
	if !addressed {
		drift = append(drift, fmt.Sprintf("bridge %s lacks the address %s", d.Name, d.Address))
	}
	if link.Attrs().Flags&net.FlagUp == 0 {
		drift = append(drift, fmt.Sprintf("bridge %s is down", d.Name))
	}
	if len(drift) == 0 {
		lists, err := k.readLists(v4)
		if err != nil {
			return nil, err
		}
		drift = led.Faults(link.Attrs(), lists.Routes, d.Address)
	}
	if d.Found != nil {
		return drift, nil
	}
	return append(drift, d.differences(link.Attrs())...), nil
}

// absence returns the line for a bridge of whose name there is no device.
func (d *Device) absence(k *Kernel) ([]string, error) {
	renamed, err := d.renamed(k)
	if err != nil || renamed == nil {
		return []string{fmt.Sprintf("bridge %s is missing", d.Name)}, err
	}
	return []string{fmt.Sprintf("bridge %s is missing: it was renamed to %s", d.Name, renamed.Attrs().Name)}, nil
}

// renamed returns the bridge made by boxrun that has another name by now; nil where there is none.
func (d *Device) renamed(k *Kernel) (netlink.Link, error) {
	links, err := dump.Links(k.link)
	if err != nil {
		return nil, fmt.Errorf("reading the links: %w", err)
	}
	if d.Found != nil {
		return nil, nil
	}
	return renamedBridge(links, d.Name), nil
}

// renamedBridge returns the link that boxrun made as the bridge of that name, and that has another name by now; nil where
// there is none.
func renamedBridge(links []netlink.Link, name string) netlink.Link {
	i := slices.IndexFunc(links, func(l netlink.Link) bool {
		a := l.Attrs()
		return a.Alias == bridgeAlias(name) && a.Name != name && l.Type() == "bridge"
	})
	if i < 0 {
		return nil
	}
	return links[i]
}

// regain gives a bridge that was renamed its name back, with the ports that are on the bridge; or makes the bridge. Older
// kernels rename no device that is up.
func (d *Device) regain(k *Kernel) (netlink.Link, error) {
	link, err := d.renamed(k)
	if err != nil {
		return nil, err
	}
	if link == nil {
		return d.make(k)
	}
	if err := cmp.Or(k.link.LinkSetDown(link), k.link.LinkSetName(link, d.Name)); err != nil {
		return nil, fmt.Errorf("giving %s its name back: %w", link.Attrs().Name, err)
	}
	return k.link.LinkByName(d.Name)
}

// differences returns a line for each way in which a bridge of boxrun's own differs from how boxrun made the bridge.
func (d *Device) differences(a *netlink.LinkAttrs) []string {
	var drift []string
	if d.MTU > 0 && a.MTU != d.MTU {
		drift = append(drift, fmt.Sprintf("bridge %s has mtu %d instead of %d", d.Name, a.MTU, d.MTU))
	}
	if a.HardwareAddr.String() != d.MAC {
		drift = append(drift, fmt.Sprintf("bridge %s has the MAC %s instead of %s", d.Name, a.HardwareAddr, d.MAC))
	}
	if a.Alias != d.Alias {
		drift = append(drift, fmt.Sprintf("bridge %s has the alias %q instead of %q", d.Name, a.Alias, d.Alias))
	}
	return drift
}

func (d *Device) ensure(k *Kernel) error {
	link, err := k.linkByName(d.Name)
	if err == nil && link == nil {
		link, err = d.regain(k)
	}
	if err == nil && d.Found == nil {
		err = d.repairAttrs(k, link)
	}
	if err != nil {
		return err
	}
	addressed, _, err := d.addressed(k, link)
	if err == nil && !addressed {
		err = k.link.AddrAdd(link, addrOn(d.Address))
	}
	if err != nil {
		return fmt.Errorf("adding %s: %w", d.Address, err)
	}
	return errors.Join(k.link.LinkSetUp(link), k.lead(link, d.Address))
}

// lead has the host's packets for the network of an address of a bridge go to the bridge.
func (k *Kernel) lead(bridge netlink.Link, own netip.Prefix) error {
	clear(k.lists)
	return led.Route(k.link, bridge, own)
}

// make makes the bridge and its alias at once, so the bridge is never nobody's.
func (d *Device) make(k *Kernel) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Alias, attrs.MTU = d.Name, d.Alias, d.MTU
	attrs.HardwareAddr, _ = net.ParseMAC(d.MAC)
	if err := k.link.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		return nil, fmt.Errorf("making it: %w", err)
	}
	return k.link.LinkByName(d.Name)
}

// repairAttrs sets what differences finds.
func (d *Device) repairAttrs(k *Kernel, link netlink.Link) error {
	var errs []error
	a := link.Attrs()
	if d.MTU > 0 && a.MTU != d.MTU {
		errs = append(errs, k.link.LinkSetMTU(link, d.MTU))
	}
	if a.HardwareAddr.String() != d.MAC {
		mac, err := net.ParseMAC(d.MAC)
		errs = append(errs, err, k.link.LinkSetHardwareAddr(link, mac))
	}
	if a.Alias != d.Alias {
		errs = append(errs, k.link.LinkSetAlias(link, d.Alias))
	}
	errs = append(errs, led.Ask(k.link, link))
	return errors.Join(errs...)
}

// undo deletes a bridge made by boxrun, be it renamed, unless the bridge still has a port: boxes may have been started there by hand.
func (d *Device) undo(k *Kernel) error {
	link, err := k.linkByName(d.Name)
	if link != nil && d.Found != nil {
		return d.restore(k, link)
	}
	if err == nil && (link == nil || link.Attrs().Alias != d.Alias) { // somebody else has the name after boxrun
		link, err = d.renamed(k)
	}
	if link == nil || err != nil {
		return err
	}
	ports, err := k.ports(link)
	ports = slices.DeleteFunc(ports, func(port string) bool { return port == d.leaving })
	if err != nil || len(ports) > 0 {
		return err
	}
	return k.link.LinkDel(link)
}

// restore makes somebody else's bridge what the bridge was. While there are ports on the bridge, restore only writes
// the settings back: the ports may rely on the rest by now.
func (d *Device) restore(k *Kernel, link netlink.Link) error {
	ports, err := k.ports(link)
	if err != nil || len(ports) > 0 {
		return errors.Join(err, restoreSettings(d.Found.Before))
	}
	var errs []error
	if !d.Found.Addressed {
		errs = append(errs, ignore(k.link.AddrDel(link, addrOn(d.Address)), unix.EADDRNOTAVAIL))
	}
	if !d.Found.Promisc && link.Attrs().Promisc > 0 {
		errs = append(errs, k.link.SetPromiscOff(link))
	}
	if !d.Found.Up {
		errs = append(errs, k.link.LinkSetDown(link))
	}
	return errors.Join(append(errs, restoreSettings(d.Found.Before))...)
}

// addrOn returns an address with its network as the library takes addresses.
func addrOn(p netip.Prefix) *netlink.Addr {
	return &netlink.Addr{IPNet: dump.IPNet(p)}
}

// ports returns the devices that are ports of a bridge.
func (k *Kernel) ports(bridge netlink.Link) ([]string, error) {
	links, err := dump.Links(k.link)
	if err != nil {
		return nil, fmt.Errorf("reading the links: %w", err)
	}
	var ports []string
	for _, l := range links {
		if l.Attrs().MasterIndex == bridge.Attrs().Index {
			ports = append(ports, l.Attrs().Name)
		}
	}
	return ports, nil
}
