package lan

import (
	"fmt"
	"os"
	"strings"

	"boxrun/launcher/box"
	"boxrun/netsetup/dump"
	"boxrun/netsetup/lan"
)

// hostsOf returns what a box on the LAN has to know of the host, whose way there has a MAC: nothing without IPv6 on the LAN.
func hostsOf(b *box.Box, mac string) (lan.Known, error) {
	known := lan.Known{Device: Device(b), MAC: mac}
	if len(b.LAN6) == 0 {
		return known, nil
	}
	parent, err := lan.LookParent(b.Parent)
	for _, own := range parent.Of(b.LAN6[0]) {
		known.Hosts = append(known.Hosts, own.Addr())
	}
	return known, err
}

// wayMAC returns the MAC that the device of the host's way has.
func wayMAC(b *box.Box) (string, error) {
	mac, err := os.ReadFile("/sys/class/net/" + lan.Way{Parent: b.Parent}.Device() + "/address")
	return strings.TrimSpace(string(mac)), err
}

// inside does with what a box has to know of the host, in the network of the box. Nothing is done where the host has no way:
// that is another fault.
func inside(b *box.Box, do func(lan.Known) error) error {
	mac, err := wayMAC(b)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	known, err := hostsOf(b, mac)
	if err != nil {
		return err
	}
	err = dump.InNetworkOf(b.Init.PID, func() error { return do(known) })
	if err != nil {
		return fmt.Errorf("telling box %s of the host: %w", b.Name, err)
	}
	return nil
}

// tellHosts has a box know the host's addresses of IPv6 on the LAN.
func tellHosts(b *box.Box) error {
	return inside(b, func(known lan.Known) error { return known.Ensure(dump.OfHost()) })
}

// hostsDrift returns a line for each address of the host's that a box does not know, or takes for the host's.
func hostsDrift(b *box.Box) (drift []string, err error) {
	err = inside(b, func(known lan.Known) (err error) {
		drift, err = known.Drift(dump.OfHost())
		return err
	})
	return drift, err
}
