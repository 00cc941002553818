package netsetup

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Plug is the step that keeps a box's veth on the bridge, up, and with hairpin, by which the bridge lets a frame back out
// of the port of its arrival. Without hairpin a box cannot reach its own published address while
// bridge-nf-call-iptables is 1: the translation then happens on the bridge, and the frame never leaves the bridge. The
// CNI plugin's promiscMode does not help there, and the plugin refuses hairpinMode beside promiscMode.
type Plug struct {
	Veth   string `json:"veth"`             // dies with the box, and so do the settings
	Bridge string `json:"bridge,omitempty"` // "" in records of older boxruns, which took any bridge
	Was    bool   `json:"was,omitempty"`    // hairpin was on before
}

func (p *Plug) String() string { return "port " + p.Veth }

// commands find the veth on the bridge, as the CNI plugin leaves the veth, and do not fail where the veth has gone with
// its box.
func (p *Plug) commands() (up, down []string) {
	return []string{fmt.Sprintf("bridge link set dev %s hairpin on", p.Veth)},
		[]string{fmt.Sprintf("bridge link set dev %s hairpin off 2>/dev/null || true", p.Veth)}
}

func (p *Plug) record(k *Kernel) error {
	veth, err := k.device(p.Veth)
	if veth != nil {
		p.Was = veth.Hairpin
	}
	return err
}

func (p *Plug) check(k *Kernel) ([]string, error) {
	veth, err := k.device(p.Veth)
	if err != nil {
		return nil, err
	}
	if veth == nil {
		return []string{p.Veth + " is missing"}, nil
	}
	plugged, err := p.plugged(k, veth.Master)
	if err != nil {
		return nil, err
	}
	if !plugged {
		return []string{fmt.Sprintf("%s is not on bridge %s", p.Veth, p.Bridge)}, nil
	}
	var drift []string
	if !veth.Up {
		drift = append(drift, p.Veth+" is down")
	}
	if veth.Odd != "" && p.Bridge != "" {
		drift = append(drift, fmt.Sprintf("as a port of %s, %s has %s", p.Bridge, p.Veth, veth.Odd))
	}
	if !veth.Hairpin {
		drift = append(drift, fmt.Sprintf("hairpin of %s is off", p.Veth))
	}
	return drift, nil
}

// plugged reports whether a device with a master, 0 for none, is on the bridge.
func (p *Plug) plugged(k *Kernel, master int) (bool, error) {
	if p.Bridge == "" || master == 0 {
		return p.Bridge == "", nil
	}
	bridge, err := k.device(p.Bridge)
	return bridge != nil && bridge.Index == master, err
}

func (p *Plug) ensure(k *Kernel) error {
	link, err := k.link.LinkByName(p.Veth)
	if err != nil {
		return err
	}
	plugged, err := p.plugged(k, link.Attrs().MasterIndex)
	veth, vethErr := k.device(p.Veth)
	if err = cmp.Or(err, vethErr); err == nil && (!plugged || veth != nil && veth.Odd != "" && p.Bridge != "") {
		err = p.plugIn(k, link)
	}
	if err != nil {
		return err
	}
	return errors.Join(k.link.LinkSetUp(link), k.link.LinkSetHairpin(link, true))
}

func (p *Plug) plugIn(k *Kernel, link netlink.Link) error {
	bridge, err := k.link.LinkByName(p.Bridge)
	if err == nil && link.Attrs().MasterIndex == bridge.Attrs().Index {
		err = k.link.LinkSetNoMaster(link) // a new port has nothing odd
	}
	if err != nil {
		return err
	}
	return k.link.LinkSetMaster(link, bridge)
}

func (p *Plug) undo(k *Kernel) error {
	link, err := k.linkByName(p.Veth)
	if p.Was || link == nil || err != nil || link.Attrs().MasterIndex == 0 {
		return err // gone, or taken off its bridge
	}
	return ignore(k.link.LinkSetHairpin(link, false), unix.ENODEV) // the veth may go with its box at any moment
}
