package netsetup

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Hairpin is the step that lets the bridge send a frame back out of the port of its arrival. Without hairpin a box
// cannot reach its own published address while bridge-nf-call-iptables is 1: the translation then happens on the
// bridge, and the frame never leaves the bridge. The CNI plugin's promiscMode does not help there, and the plugin
// refuses hairpinMode beside promiscMode.
type Hairpin struct {
	Veth string `json:"veth"`          // dies with the box, and so does the setting
	Was  bool   `json:"was,omitempty"` // hairpin was on before
}

func (h *Hairpin) String() string { return "hairpin of " + h.Veth }

// commands do not fail where the veth has gone with its box.
func (h *Hairpin) commands() (up, down []string) {
	return []string{fmt.Sprintf("bridge link set dev %s hairpin on", h.Veth)},
		[]string{fmt.Sprintf("bridge link set dev %s hairpin off 2>/dev/null || true", h.Veth)}
}

func (h *Hairpin) record(k *Kernel) error {
	link, err := k.linkByName(h.Veth)
	if link == nil || err != nil {
		return err
	}
	h.Was, err = k.hairpin(link)
	return err
}

// hairpin reports whether hairpin is on for a device. A device without a bridge has no hairpin.
func (k *Kernel) hairpin(link netlink.Link) (bool, error) {
	info, err := dump(func() (netlink.Protinfo, error) { return k.link.LinkGetProtinfo(link) })
	if err != nil && link.Attrs().MasterIndex == 0 {
		return false, nil
	}
	return info.Hairpin, err
}

func (h *Hairpin) check(k *Kernel) ([]string, error) {
	link, err := k.linkByName(h.Veth)
	if err != nil {
		return nil, err
	}
	if link == nil {
		return []string{h.Veth + " is missing"}, nil
	}
	on, err := k.hairpin(link)
	if on || err != nil {
		return nil, err
	}
	return []string{fmt.Sprintf("hairpin of %s is off", h.Veth)}, nil
}

func (h *Hairpin) ensure(k *Kernel) error {
	link, err := k.link.LinkByName(h.Veth)
	if err != nil {
		return err
	}
	if link.Attrs().MasterIndex == 0 {
		return errors.New("the device is on no bridge")
	}
	return k.link.LinkSetHairpin(link, true)
}

func (h *Hairpin) undo(k *Kernel) error {
	link, err := k.linkByName(h.Veth)
	if h.Was || link == nil || err != nil || link.Attrs().MasterIndex == 0 {
		return err // gone, or taken off its bridge
	}
	return ignore(k.link.LinkSetHairpin(link, false), unix.ENODEV) // the veth may go with its box at any moment
}
