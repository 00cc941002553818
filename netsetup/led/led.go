package led

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"boxrun/netsetup/dump"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Faults returns a line for each thing between the host's packets for the network of an address and the bridge with the
// address, as a bridge and all routes of the family tell. A bridge gets the route from the kernel as it goes up.
func Faults(bridge *netlink.LinkAttrs, routes []netlink.Route, own netip.Prefix) []string {
	var lines []string
	if quiet(bridge) && own.Addr().Is4() {
		lines = append(lines, fmt.Sprintf("bridge %s asks nobody for a MAC (arp off)", bridge.Name))
	}
	if !slices.ContainsFunc(routes, func(r netlink.Route) bool {
		return r.LinkIndex == bridge.Index && r.Table != unix.RT_TABLE_LOCAL && dump.PrefixOf(r.Dst) == own.Masked()
	}) {
		lines = append(lines, fmt.Sprintf("bridge %s lacks the route to %s", bridge.Name, own.Masked()))
	}
	return lines
}

func quiet(bridge *netlink.LinkAttrs) bool { return bridge.RawFlags&unix.IFF_NOARP != 0 }

// Ask has the bridge ask for MACs.
func Ask(h *netlink.Handle, bridge netlink.Link) error {
	if !quiet(bridge.Attrs()) {
		return nil
	}
	return h.LinkSetARPOn(bridge)
}

// Route makes the route to the network of an address of the bridge as the kernel does, and leaves an older route alone.
func Route(h *netlink.Handle, bridge netlink.Link, own netip.Prefix) error {
	r := netlink.Route{LinkIndex: bridge.Attrs().Index, Dst: dump.IPNet(own.Masked()), Protocol: unix.RTPROT_KERNEL}
	if own.Addr().Is4() {
		r.Scope, r.Src = netlink.SCOPE_LINK, own.Addr().AsSlice()
	} else {
		r.Priority = metric6
	}
	if err := h.RouteAdd(&r); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("adding the route to %s by %s: %w", own.Masked(), bridge.Attrs().Name, err)
	}
	return nil
}

// metric6 is the metric of the kernel's own routes of IPv6 (IP6_RT_PRIO_ADDRCONF).
const metric6 = 256

// Typed returns the command to type in place of Route.
func Typed(bridge string, own netip.Prefix) string {
	if own.Addr().Is6() {
		return fmt.Sprintf("ip -6 route replace %s dev %s proto kernel metric %d", own.Masked(), bridge, metric6)
	}
	return fmt.Sprintf("ip route replace %s dev %s proto kernel scope link src %s", own.Masked(), bridge, own.Addr())
}

// Host is the host as far as its own packets to boxes go. Each bridge is looked at once. Several goroutines may ask at once.
// Close a Host that was asked for Astray.
type Host struct {
	mu      sync.Mutex
	kept    *netlink.Handle              // one socket for all questions of Astray; nil: not opened yet
	indexes map[string]int               // of bridges; 0 for one that is missing
	entries map[int][]netlink.Neigh      // neighbours, by the index of a bridge
	macs    map[string]string            // of bridges
	ipsec   map[int][]netlink.XfrmPolicy // by family
}

// MAC returns the MAC of a bridge, as of tells once.
func (h *Host) MAC(bridge string, of func() string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.macs == nil {
		h.macs = map[string]string{}
	}
	if _, known := h.macs[bridge]; !known {
		h.macs[bridge] = of()
	}
	return h.macs[bridge]
}

// handle returns a handle of the host, the same for all questions.
func (h *Host) handle() (*netlink.Handle, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.kept == nil {
		var err error
		if h.kept, err = dump.Kept(); err != nil {
			h.kept = nil
			return nil, err
		}
	}
	return h.kept, nil
}

// Close closes what questions have opened.
func (h *Host) Close() {
	if h.kept != nil {
		h.kept.Close()
	}
}

// index returns the index of a bridge, and 0 for a bridge that is missing.
func (h *Host) index(bridge string) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if index, known := h.indexes[bridge]; known {
		return index, nil
	}
	index := 0
	link, err := dump.OfHost().LinkByName(bridge)
	if err == nil {
		index = link.Attrs().Index
	} else if !errors.As(err, &netlink.LinkNotFoundError{}) {
		return 0, fmt.Errorf("reading %s: %w", bridge, err)
	}
	if h.indexes == nil {
		h.indexes = map[string]int{}
	}
	h.indexes[bridge] = index
	return index, nil
}

// neighbours returns the neighbours on a bridge.
func (h *Host) neighbours(index int) ([]netlink.Neigh, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if entries, known := h.entries[index]; known {
		return entries, nil
	}
	entries, err := dump.Neighs(dump.OfHost(), index, netlink.FAMILY_ALL)
	if err != nil {
		return nil, err
	}
	if h.entries == nil {
		h.entries = map[int][]netlink.Neigh{}
	}
	h.entries[index] = entries
	return entries, nil
}

// Mistaken returns a line for each address of a box for which the host holds another MAC than the box's, for good: somebody
// wrote the entry. The kernel's own entries are asked for again. A bridge that is missing has none.
func (h *Host) Mistaken(bridge, mac string, box ...netip.Addr) (lines []string, err error) {
	index, err := h.index(bridge)
	if index == 0 || err != nil {
		return nil, err
	}
	entries, err := h.neighbours(index)
	if err != nil {
		return nil, fmt.Errorf("reading the neighbours on %s: %w", bridge, err)
	}
	for _, e := range entries {
		addr := dump.AddrOf(e.IP)
		if e.State&netlink.NUD_PERMANENT != 0 && slices.Contains(box, addr) && e.HardwareAddr.String() != mac {
			lines = append(lines, fmt.Sprintf("the host has a permanent neighbour %s at %s, and the box is at %s", addr, e.HardwareAddr, mac))
		}
	}
	return lines, nil
}

// Forget makes the host ask anew who has an address on a bridge. A box started again gets its address back, but not its
// MAC. While the host has other traffic on the bridge, the host would send to the old MAC for as long as the entry counts
// as reachable. Without such an entry, or without the bridge, Forget returns nil.
func Forget(h *netlink.Handle, bridge string, addr netip.Addr) error {
	link, err := h.LinkByName(bridge)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err == nil {
		err = h.NeighDel(&netlink.Neigh{LinkIndex: link.Attrs().Index, IP: addr.AsSlice()})
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("forgetting neighbour %s on %s: %w", addr, bridge, err)
	}
	return nil
}

// A Detour is what keeps the host's own packets for a box from the bridge, and what a person does about that: none of it is
// boxrun's to mend.
type Detour struct{ Text, Hint string }

func (d Detour) String() string { return d.Text + ": " + d.Hint }

// Astray returns the detours of the host's own packets for each address of a box.
func (h *Host) Astray(bridge string, box ...netip.Addr) (found []Detour, err error) {
	index, err := h.index(bridge)
	if err != nil {
		return nil, err
	}
	host, err := h.handle()
	if err != nil {
		return nil, err
	}
	for _, addr := range box {
		family := netlink.FAMILY_V4
		if addr.Is6() {
			family = netlink.FAMILY_V6
		}
		policies, err := h.policies(family)
		if err != nil {
			return found, err
		}
		found = append(found, secured(policies, addr)...)
		lost, err := misrouted(host, bridge, index, addr)
		if err != nil {
			return found, err
		}
		found = append(found, lost...)
	}
	return found, nil
}

// Lost is Astray as lines.
func (h *Host) Lost(bridge string, box ...netip.Addr) (lines []string, err error) {
	found, err := h.Astray(bridge, box...)
	for _, d := range found {
		lines = append(lines, d.String())
	}
	return lines, err
}

// misrouted returns the detour of packets for an address that do not leave by the bridge with an index.
func misrouted(h *netlink.Handle, bridge string, index int, addr netip.Addr) ([]Detour, error) {
	way, err := to(h, addr)
	if err != nil || way != 0 && way == index {
		return nil, err
	}
	device, err := nameOf(h, way)
	if err != nil {
		return nil, fmt.Errorf("looking up the device of the route to %s: %w", addr, err)
	}
	hint, err := whyNot(h, addr)
	return []Detour{{fmt.Sprintf("the host's packets for %s leave by %s, not by %s", addr, device, bridge), hint}}, err
}

// whyNot returns what to do about packets for an address that go elsewhere: where nobody asks the table with the host's own
// routes, the command that has the kernel do so again.
func whyNot(h *netlink.Handle, addr netip.Addr) (string, error) {
	family, six := netlink.FAMILY_V4, ""
	if addr.Is6() {
		family, six = netlink.FAMILY_V6, "-6 "
	}
	rules, err := dump.Retry(func() ([]netlink.Rule, error) { return h.RuleList(family) })
	if err != nil {
		return "", fmt.Errorf("listing the routing rules: %w", err)
	}
	if !slices.ContainsFunc(rules, func(r netlink.Rule) bool { return r.Table == unix.RT_TABLE_MAIN }) {
		return fmt.Sprintf("no rule asks the table main: \"ip %srule add pref 32766 lookup main\" mends that", six), nil
	}
	return fmt.Sprintf("\"ip route get %s\" and \"ip %srule\" tell why", addr, six), nil
}

// Astray is Host.Astray for a single box.
func Astray(bridge string, box ...netip.Addr) ([]Detour, error) {
	h := new(Host)
	defer h.Close()
	return h.Astray(bridge, box...)
}

// to asks the kernel for the index of the device by which the host's own packets for an address leave, as "ip route get" does.
// Without a way to returns 0.
func to(h *netlink.Handle, addr netip.Addr) (int, error) {
	routes, err := h.RouteGet(addr.AsSlice())
	var none unix.Errno // there is no way there, or the way is closed
	if errors.As(err, &none) || err == nil && len(routes) == 0 {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("looking up the route to %s: %w", addr, err)
	}
	return routes[0].LinkIndex, nil
}

// nameOf returns the name of a device, and "no device" for the index 0.
func nameOf(h *netlink.Handle, index int) (string, error) {
	if index == 0 {
		return "no device", nil
	}
	link, err := h.LinkByIndex(index)
	if err != nil {
		return "", err
	}
	return link.Attrs().Name, nil
}
