package offload

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"boxrun/netsetup/dump"
	"boxrun/netsetup/routing"
	"boxrun/netsetup/rules"
	"boxrun/netsetup/six"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Uplink is a device by which packets come to boxes and leave them.
type Uplink struct {
	Device string `json:"device"`
	Driver string `json:"driver"`
}

func (u Uplink) String() string { return u.Device + " (driver " + u.Driver + ")" }

// Need is what the uplinks of a host need, with the uplinks in need.
type Need struct {
	In  []Uplink // whole checksums of packets into boxes
	Out []Uplink // whole checksums of packets out of boxes
}

// Names returns the uplinks as words for a sentence.
func Names(uplinks []Uplink) string {
	var names []string
	for _, u := range uplinks {
		names = append(names, u.String())
	}
	return strings.Join(names, ", ")
}

// OfHost returns what the uplinks of the host need.
func OfHost() (Need, error) {
	eth, err := ethtool.NewEthtool()
	if err != nil {
		return Need{}, fmt.Errorf("opening ethtool: %w", err)
	}
	defer eth.Close()
	h := dump.OfHost()
	families := []int{netlink.FAMILY_V4}
	if six.Possible() {
		families = append(families, netlink.FAMILY_V6)
	}
	var routes []netlink.Route
	for _, family := range families {
		of, err := dump.Routes(h, family, &netlink.Route{}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return Need{}, fmt.Errorf("reading the routes: %w", err)
		}
		routes = append(routes, of...)
	}
	return LookBy(eth, h, routes)
}

// LookBy returns what the devices need at the end of routes of either family, but for boxrun's own bridges. A device with an
// address has a route to the network of the address. Every device has one to its neighbours, and in older kernels one for
// multicast, which are no uplink's.
func LookBy(eth *ethtool.Ethtool, h *netlink.Handle, routes []netlink.Route) (Need, error) {
	routes = slices.DeleteFunc(slices.Clone(routes), func(r netlink.Route) bool {
		dst := dump.PrefixOf(r.Dst).Addr()
		return dst.Is6() && (dst.IsLinkLocalUnicast() || dst.IsMulticast())
	})
	var devices []Uplink
	for _, index := range routing.DefaultLinks(routes, 128) {
		link, err := h.LinkByIndex(index)
		switch {
		case errors.As(err, &netlink.LinkNotFoundError{}):
		case err != nil:
			return Need{}, fmt.Errorf("looking up a route's device: %w", err)
		case !strings.HasPrefix(link.Attrs().Alias, rules.MarkPrefix):
			devices = append(devices, Uplink{link.Attrs().Name, link.Type()})
		}
	}
	return Look(eth, devices)
}

// Look returns what devices need, and what the devices below need: the ports of a bridge, the parent of a VLAN. The driver
// of a given device is the kind of link, for kernels without a word on the driver of a link without hardware. A device
// gone by now needs nothing.
func Look(eth *ethtool.Ethtool, devices []Uplink) (Need, error) {
	var n Need
	for seen := []string{}; len(devices) > 0; devices = devices[1:] {
		u := devices[0]
		if slices.Contains(seen, u.Device) {
			continue
		}
		seen = append(seen, u.Device)
		driver, err := eth.DriverName(u.Device)
		if err == nil {
			u.Driver = driver
		} else if !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.EOPNOTSUPP) {
			return n, err
		}
		if err := n.add(eth, u); err != nil {
			return n, err
		}
		for _, device := range below(u.Device) {
			devices = append(devices, Uplink{Device: device})
		}
	}
	return n, nil
}

// add adds what an uplink needs. For an uplink that offers no checksums the kernel completes them.
func (n *Need) add(eth *ethtool.Ethtool, u Uplink) error {
	d := driverNamed(u.Driver)
	if d.In {
		n.In = append(n.In, u)
	}
	if !d.Out {
		return nil
	}
	offered, err := Checksums().On(eth, u.Device)
	if len(offered) > 0 {
		n.Out = append(n.Out, u)
	}
	return err
}

// below returns the devices below a device, as sysfs names them.
func below(device string) []string {
	const mark = "lower_"
	links, _ := filepath.Glob(filepath.Join("/sys/class/net", device, mark+"*")) // the pattern is right
	var names []string
	for _, link := range links {
		names = append(names, strings.TrimPrefix(filepath.Base(link), mark))
	}
	return names
}
