package lan

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"boxrun/netsetup/dump"
	"boxrun/netsetup/rules"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Way leads packets of the host to a box on the LAN of a device: a macvlan device of the host, which all boxes on the LAN
// share, and a route to each address of the box alone.
type Way struct {
	Parent string // device of the host on the LAN
	MAC    string // of the macvlan device, always the same: boxes remember the MAC; "": any
	Ends   []End
}

// End is an address of the box, and that of the host on the LAN from which the host speaks to the box; zero: any.
type End struct{ Box, Host netip.Addr }

// to is the destination of the route.
func (e End) to() netip.Prefix { return netip.PrefixFrom(e.Box, e.Box.BitLen()) }

// prefix begins the names of the macvlan devices of the host.
const prefix = "lan-"

// alias marks the macvlan devices of boxrun's.
const alias = "boxrun:lan"

// Device returns the name of the macvlan device: of a long name of the parent, the end.
func (w Way) Device() string {
	const longest = unix.IFNAMSIZ - 1 - len(prefix)
	return prefix + w.Parent[max(0, len(w.Parent)-longest):]
}

// settings are those of the macvlan device. With arp_filter, the device answers for the host's addresses to boxes alone:
// the LAN has its answers from the parent. The host believes no router by way of the device, which has IPv6 where the parent
// has, and at once: its link-local address follows from a MAC that nobody else has.
func (w Way) settings() [][2]string {
	six := "/proc/sys/net/ipv6/conf/"
	list := [][2]string{{"/proc/sys/net/ipv4/conf/" + w.Device() + "/arp_filter", "1"}}
	if off, err := os.ReadFile(six + w.Parent + "/disable_ipv6"); err != nil || strings.TrimSpace(string(off)) != "0" {
		return append(list, [2]string{six + w.Device() + "/disable_ipv6", "1"})
	}
	for _, s := range [][2]string{{"accept_ra", "0"}, {"accept_dad", "0"}, {"disable_ipv6", "0"}} {
		list = append(list, [2]string{six + w.Device() + "/" + s[0], s[1]})
	}
	return list
}

// Commands returns what a person would type on a clean host. The first line does nothing where another box has the
// device.
func (w Way) Commands() []string {
	dev := w.Device()
	lines := []string{fmt.Sprintf("[ -e /sys/class/net/%s ] || ip link add %[1]s link %s%s type macvlan mode bridge",
		dev, w.Parent, rules.WordsIf(w.MAC != "", " address %s", w.MAC))}
	lines = append(lines, fmt.Sprintf("ip link set %s alias %s", dev, alias))
	for _, s := range w.settings() {
		lines = append(lines, fmt.Sprintf("[ ! -e %s ] || echo %s > %[1]s", s[0], s[1]))
	}
	lines = append(lines, fmt.Sprintf("ip link set %s up", dev))
	for _, e := range w.Ends {
		lines = append(lines, fmt.Sprintf("ip route replace %s dev %s%s", e.to(), dev, rules.WordsIf(e.Host.IsValid(), " src %s", e.Host)))
	}
	return lines
}

// UndoCommands returns what a person would type to take the way back; with the last box on the LAN, the device too.
func (w Way) UndoCommands(last bool) []string {
	if last {
		return []string{"ip link del " + w.Device()}
	}
	var lines []string
	for _, e := range w.Ends {
		lines = append(lines, fmt.Sprintf("ip route del %s dev %s", e.to(), w.Device()))
	}
	return lines
}

// Drift returns a line for each thing out of place. It never writes.
func (w Way) Drift() ([]string, error) {
	h := dump.OfHost()
	link, err := w.link(h)
	if err != nil {
		return nil, err
	}
	if link == nil {
		return []string{fmt.Sprintf("the host's way to boxes on the LAN of %s, %s, is missing", w.Parent, w.Device())}, nil
	}
	var drift []string
	if link.Attrs().Flags&net.FlagUp == 0 {
		drift = append(drift, w.Device()+" is down")
	}
	for _, s := range w.settings() {
		if have, err := os.ReadFile(s[0]); err == nil && strings.TrimSpace(string(have)) != s[1] {
			drift = append(drift, fmt.Sprintf("%s is not %s", s[0], s[1]))
		}
	}
	routes, err := routesBy(h, link)
	for _, e := range w.Ends {
		if err == nil && !slices.ContainsFunc(routes, e.leads) {
			drift = append(drift, fmt.Sprintf("the host's route to %s by %s is missing", e.Box, w.Device()))
		}
	}
	return drift, err
}

// link returns the macvlan device, nil where there is none. A device of the name that is another's is an error. A boxrun
// that was killed leaves a device with the MAC and without the alias.
func (w Way) link(h *netlink.Handle) (netlink.Link, error) {
	link, err := h.LinkByName(w.Device())
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", w.Device(), err)
	}
	a := link.Attrs()
	ours := a.Alias == alias || a.Alias == "" && a.HardwareAddr.String() == w.MAC
	if link.Type() != "macvlan" || !ours {
		return nil, fmt.Errorf("%s, the name of the host's way to boxes on the LAN of %s, is a device of somebody else's", w.Device(), w.Parent)
	}
	return link, nil
}

// leads reports whether a route is that to the end.
func (e End) leads(r netlink.Route) bool {
	return dump.PrefixOf(r.Dst) == e.to() && dump.AddrOf(r.Src) == e.Host
}

// routesBy returns the routes to single addresses by a link.
func routesBy(h *netlink.Handle, link netlink.Link) ([]netlink.Route, error) {
	var found []netlink.Route
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := dump.Routes(h, family, &netlink.Route{LinkIndex: link.Attrs().Index}, netlink.RT_FILTER_OIF)
		if err != nil {
			return nil, fmt.Errorf("reading the routes by %s: %w", link.Attrs().Name, err)
		}
		found = append(found, slices.DeleteFunc(routes, func(r netlink.Route) bool { return !dump.PrefixOf(r.Dst).IsSingleIP() })...)
	}
	return found, nil
}

// Ensure puts the way in place, whatever part of the way is there.
func (w Way) Ensure() error {
	h := dump.OfHost()
	link, err := w.link(h)
	if err == nil && link == nil {
		link, err = w.make(h)
	}
	if err != nil {
		return err
	}
	for _, s := range w.settings() {
		if err := os.WriteFile(s[0], []byte(s[1]), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := errors.Join(h.LinkSetAlias(link, alias), h.LinkSetUp(link)); err != nil {
		return fmt.Errorf("setting %s up: %w", w.Device(), err)
	}
	for _, e := range w.Ends {
		err := h.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: dump.IPNet(e.to()), Src: e.Host.AsSlice(), Scope: netlink.SCOPE_LINK})
		if err != nil {
			return fmt.Errorf("leading the host to %s by %s: %w", e.Box, w.Device(), err)
		}
	}
	return nil
}

// make makes the macvlan device. Another boxrun may have made the device at the same time.
func (w Way) make(h *netlink.Handle) (netlink.Link, error) {
	parent, err := h.LinkByName(w.Parent)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", w.Parent, err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Alias, attrs.ParentIndex = w.Device(), alias, parent.Attrs().Index
	attrs.HardwareAddr, _ = net.ParseMAC(w.MAC) // of "" none
	err = h.LinkAdd(&netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_BRIDGE})
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("making %s: %w", w.Device(), err)
	}
	return w.link(h)
}

// IsWay reports whether a link is the device of a way.
func IsWay(link netlink.Link) bool { return link.Type() == "macvlan" && link.Attrs().Alias == alias }

// Leave takes away the routes to addresses that the box has no longer.
func (w Way) Leave() error {
	h := dump.OfHost()
	link, err := w.link(h)
	if err != nil || link == nil {
		return err
	}
	for _, e := range w.Ends {
		err := h.RouteDel(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: dump.IPNet(e.to()), Scope: netlink.SCOPE_LINK})
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("deleting the route to %s: %w", e.Box, err)
		}
	}
	return nil
}

// ByWay reports whether the index is that of a way's device.
func ByWay(index int) bool {
	return slices.ContainsFunc(Devices(), func(name string) bool {
		have, err := os.ReadFile("/sys/class/net/" + name + "/ifindex")
		return err == nil && strings.TrimSpace(string(have)) == strconv.Itoa(index)
	})
}

// Devices returns the names of the devices of ways on the host.
func Devices() []string {
	paths, _ := filepath.Glob("/sys/class/net/" + prefix + "*") // a fixed pattern is never malformed
	var devices []string
	for _, path := range paths {
		if have, err := os.ReadFile(path + "/ifalias"); err == nil && strings.TrimSpace(string(have)) == alias {
			devices = append(devices, filepath.Base(path))
		}
	}
	return devices
}

// Has reports whether the way leads to an address.
func (w Way) Has(addr netip.Addr) bool {
	return slices.ContainsFunc(w.Ends, func(e End) bool { return e.Box == addr })
}

// Sweep takes away the devices of ways, and their routes, that no way among needed has, and returns a line for each.
func Sweep(needed []Way) ([]string, error) {
	var swept []string
	var errs []error
	for _, name := range Devices() {
		here := slices.DeleteFunc(slices.Clone(needed), func(w Way) bool { return w.Device() != name })
		lines, err := sweep(name, here)
		swept, errs = append(swept, lines...), append(errs, err)
	}
	return swept, errors.Join(errs...)
}

// sweep is Sweep for a device and the ways by the device.
func sweep(name string, needed []Way) ([]string, error) {
	h := dump.OfHost()
	link, err := h.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	if len(needed) == 0 {
		if err := h.LinkDel(link); err != nil {
			return nil, fmt.Errorf("deleting %s: %w", name, err)
		}
		return []string{"removed " + name + ", which no box needs"}, nil
	}
	routes, err := routesBy(h, link)
	var swept []string
	for _, r := range routes {
		to := dump.PrefixOf(r.Dst)
		if slices.ContainsFunc(needed, func(w Way) bool { return w.Has(to.Addr()) }) {
			continue
		}
		if err := h.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
			return swept, fmt.Errorf("deleting the route to %s: %w", to, err)
		}
		swept = append(swept, fmt.Sprintf("removed the route to %s by %s, where no box is", to.Addr(), name))
	}
	return swept, err
}
