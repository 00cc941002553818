package lan

import (
	"slices"

	"boxrun/launcher/box"
	"boxrun/netsetup"
	"boxrun/netsetup/lan"
)

// Held returns what the ways to boxes hold on the host, a device once for all boxes on its LAN; and abandoned, the devices
// of ways to none of boxes.
func Held(k *netsetup.Kernel, boxes []*box.Box) (held []netsetup.Holding, abandoned []string, err error) {
	var known []string
	for _, way := range ways(boxes) {
		device := way.Device()
		if slices.Contains(known, device) {
			continue
		}
		known = append(known, device)
		files, err := netsetup.UnmanagedWay(device).Holdings(k)
		if err != nil {
			return nil, nil, err
		}
		drift, err := lan.Way{Parent: way.Parent}.Drift()
		if err != nil {
			return nil, nil, err
		}
		held = append(append(held, netsetup.Holding{Owner: device, What: "macvlan device " + device, Drift: append([]string{}, drift...)}), files...)
	}
	isKnown := func(device string) bool { return slices.Contains(known, device) }
	return held, slices.DeleteFunc(Traces(), isKnown), nil
}

// Traces returns the devices of ways on the host, found without records, and devices of which only a file is left.
func Traces() []string {
	devices := append(lan.Devices(), netsetup.UnmanagedWays()...)
	slices.Sort(devices)
	return slices.Compact(devices)
}

// TypedTraces returns what a person would type to take away the ways returned by Traces.
func TypedTraces(devices []string) []string {
	var lines []string
	for _, device := range devices {
		lines = append(lines, "! [ -e /sys/class/net/"+device+" ] || ip link del "+device)
		lines = append(lines, netsetup.UnmanagedWay(device).UndoCommands()...)
	}
	return lines
}
