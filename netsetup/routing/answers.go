package routing

import (
	"fmt"
	"math/bits"
	"net/netip"
	"slices"

	"boxrun/netsetup/dump"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Answers is what makes the answers of the boxes of a bridge leave by where the questions came in. The zero Answers
// need nothing: the host sends all answers by a single way.
type Answers struct {
	Ways   []Way   `json:"ways,omitempty"`
	Rules  []Rule  `json:"rules,omitempty"`
	Routes []Route `json:"routes,omitempty"` // of boxrun's own tables
}

// Way is where the answers to questions for an address of the host go. The connection of a question is marked, and
// packets of the connection that come from the bridge are looked up in a table of their own.
type Way struct {
	Addr   netip.Addr `json:"addr"`
	Device string     `json:"device"` // where the questions come in, and the answers leave
	Mark   uint32     `json:"mark"`
	Table  int        `json:"table"`
}

// Somewhere is an address of documentation in the family of an address (TEST-NET-3, RFC 9637), and stands for a client
// beyond a router.
func Somewhere(like netip.Addr) netip.Addr {
	if like.Is6() {
		return netip.AddrFrom16([16]byte{0x3f, 0xff, 15: 1})
	}
	return netip.AddrFrom4([4]byte{203, 0, 113, 1})
}

// Anyone returns the address that stands for all addresses of the family of an address.
func Anyone(like netip.Addr) netip.Addr {
	if like.Is6() {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// Answers plans the answers of a bridge's boxes. Mask has the bits of marks that may be used. An address needs a way of
// its own where the route for the address as the source, or the device of the address, differs from the route for a
// box as the source. The error says that mask has too few bits.
func (f Facts) Answers(bridge string, subnet netip.Prefix, mask uint32) (Answers, error) {
	var a Answers
	usual, reached := f.lookup(flow{subnet.Addr().Next().Next(), Somewhere(subnet.Addr()), bridge})
	var tables []int
	for _, own := range f.addrs {
		if own.device == bridge {
			continue
		}
		way, hop, ok := f.way(own)
		if !ok {
			way, ok = f.near(own, bridge, subnet)
		} else if reached && !usual.split && usual.Device == hop.Device && usual.Gateway == hop.Gateway {
			continue
		}
		if !ok {
			continue
		}
		if !slices.Contains(tables, way.Table) {
			tables = append(tables, way.Table)
			if ownTable(way.Table) {
				a.Routes = append(a.Routes, f.copied(way, hop)...)
			}
		}
		way.Mark = uint32(slices.Index(tables, way.Table)+1) << bits.TrailingZeros32(mask)
		a.Ways = append(a.Ways, way)
	}
	if room := 1<<bits.OnesCount32(mask) - 1; len(tables) > room {
		return Answers{}, fmt.Errorf("answers of boxes take %d ways out of this host, and the bits of the mark %#x tell %d apart",
			len(tables), mask, room)
	}
	a.Rules = f.wanted(a.Ways, bridge, subnet, mask)
	return a, nil
}

// way returns the way of answers from an address, and the entry the answers take. The way of the host's own answers
// counts, where they leave by the device of the address. Otherwise a VPN, or another default route, takes the host's
// answers away: then the way is the best default route over that device, in a table of boxrun's where no table asks
// for the route first. An address without such a route has no clients beyond a router.
func (f Facts) way(own address) (Way, entry, bool) {
	w := Way{Addr: own.addr, Device: own.device}
	hop, ok := f.lookup(flow{own.addr, Somewhere(own.addr), "lo"})
	if ok && !hop.split && (hop.Device == own.device || f.inner[own.device]) {
		w.Device, w.Table = hop.Device, hop.Table
		return w, hop, true
	}
	if hop, ok = f.defaultOver(own.device); !ok {
		return w, hop, false
	}
	w.Table = hop.Table
	if first, _ := f.best(hop.Table, Somewhere(own.addr)); first != hop || hop.split {
		w.Table = ownTables + f.index[own.device]
	}
	return w, hop, true
}

// near returns the way for questions from the network of an address, where rules lead the answers of a box elsewhere
// than the main table does.
func (f Facts) near(own address, bridge string, subnet netip.Prefix) (Way, bool) {
	hop, found := f.best(unix.RT_TABLE_MAIN, own.next)
	usual, _ := f.lookup(flow{subnet.Addr().Next().Next(), own.next, bridge})
	w := Way{Addr: own.addr, Device: own.device, Table: unix.RT_TABLE_MAIN}
	return w, found && hop.Device == own.device && usual.Device != own.device
}

// defaultOver returns the best default route over a device: of the main table, else of another table.
func (f Facts) defaultOver(device string) (best entry, found bool) {
	for _, e := range f.routes {
		if e.Device != device || e.kind != unix.RTN_UNICAST || e.Dst.Bits() > splitBits(e.Dst.Addr().Is6()) {
			continue
		}
		if !found || before(e, best) {
			best, found = e, true
		}
	}
	return best, found
}

// before reports whether a default route over a device is better than another: the main table counts first.
func before(e, other entry) bool {
	main, otherMain := e.Table == unix.RT_TABLE_MAIN, other.Table == unix.RT_TABLE_MAIN
	return main && !otherMain || main == otherMain && e.metric < other.metric
}

// copied returns the routes of the table of hop over the device of a way, as routes of the way's own table. Networks
// next to the host come first, as the gateways of the others are there.
func (f Facts) copied(w Way, hop entry) []Route {
	found := map[netip.Prefix]entry{}
	for _, e := range f.routes {
		better, known := found[e.Dst]
		if e.Table == hop.Table && e.Device == w.Device && e.kind == unix.RTN_UNICAST && (!known || e.metric < better.metric) {
			found[e.Dst] = e
		}
	}
	var routes []Route
	for _, e := range found {
		e.Table = w.Table
		routes = append(routes, e.Route)
	}
	slices.SortFunc(routes, Route.compare)
	return routes
}

// wanted returns the rules for a bridge: the rule that leads packets to the boxes, where other rules would lead such
// packets astray, and a rule for each mark. Where the rule for the host's own addresses comes after those, as on hosts with
// Cilium or a VRF, the bridge's own address needs a rule before them.
func (f Facts) wanted(ways []Way, bridge string, subnet netip.Prefix, mask uint32) []Rule {
	var wanted []Rule
	first, second := f.places()
	if f.diverted(bridge, subnet) {
		if !f.ownFirst(first) {
			wanted = append(wanted, Rule{Six: subnet.Addr().Is6(), Priority: max(first-1, 0), To: subnet, Table: unix.RT_TABLE_LOCAL})
		}
		wanted = append(wanted, Rule{Six: subnet.Addr().Is6(), Priority: first, To: subnet, Table: unix.RT_TABLE_MAIN})
	}
	for _, w := range ways {
		r := Rule{Six: subnet.Addr().Is6(), Priority: second, From: bridge, Mark: w.Mark, Mask: mask, Table: w.Table}
		if !slices.Contains(wanted, r) {
			wanted = append(wanted, r)
		}
	}
	return wanted
}

// ownFirst reports whether the rule for the host's own addresses comes before a priority.
func (f Facts) ownFirst(priority int) bool {
	return slices.ContainsFunc(f.rules, func(r netlink.Rule) bool {
		return r.Table == unix.RT_TABLE_LOCAL && kernels(r) && r.Priority < priority
	})
}

// places returns the priorities of boxrun's two kinds of rules, which come right before the first rule of others but
// the rule for the host's own addresses. Boxrun's rules stay where they are, as long as none of others comes before. Low
// numbers would be in the way of others: the kernel gives a rule without a priority the one below the second rule's, and
// wg-quick relies on its last rule's coming first.
func (f Facts) places() (first, second int) {
	lowest := 0
	for _, r := range f.rules {
		if lowest = r.Priority; r.Table != unix.RT_TABLE_LOCAL {
			break
		}
	}
	first = lowest
	for _, r := range f.ownRules {
		switch {
		case r.From != "":
			r.Priority--
		case r.Table == unix.RT_TABLE_LOCAL:
			r.Priority++
		}
		first = min(first, r.Priority)
	}
	if first+1 >= lowest {
		return max(lowest-2, 0), max(lowest-1, 0)
	}
	return max(first, 0), first + 1
}

// diverted reports whether some packet to the subnet may be led elsewhere, as a rule before the main table's has a
// table with another route there.
func (f Facts) diverted(bridge string, subnet netip.Prefix) bool {
	tables, all := f.ahead(bridge, subnet)
	return len(tables) > 0 || !all
}

// ahead returns the tables that lead some packet to a network elsewhere than to a device, and are asked before the main table.
// All is false where a rule may pass over the main table.
func (f Facts) ahead(device string, to netip.Prefix) (tables []int, all bool) {
	all = true
	for _, r := range f.rules {
		dst := dump.PrefixOf(r.Dst)
		switch {
		case r.Table == unix.RT_TABLE_LOCAL || r.Dst != nil && !r.Invert && !dst.Overlaps(to):
			continue
		case r.Table == unix.RT_TABLE_MAIN:
			if r.SuppressPrefixlen < to.Bits() && everyPacket(r) {
				return tables, all
			}
			continue
		case r.Goto >= 0 || r.Table == 0:
			all = false
			continue
		}
		if !slices.Contains(tables, r.Table) && slices.ContainsFunc(f.routes, func(e entry) bool {
			return e.Table == r.Table && e.Dst.Overlaps(to) && e.Dst.Bits() > r.SuppressPrefixlen &&
				e.Device != device && e.kind != unix.RTN_THROW
		}) {
			tables = append(tables, r.Table)
		}
	}
	return tables, all
}

// Ahead returns the tables of others that are asked before the main table, and lead packets to a network elsewhere than to a
// device.
func (f Facts) Ahead(device string, to netip.Prefix) []int {
	tables, _ := f.ahead(device, to)
	return tables
}

// everyPacket reports whether a rule asks for nothing.
func everyPacket(r netlink.Rule) bool {
	r.SuppressPrefixlen = -1
	return kernels(r)
}
