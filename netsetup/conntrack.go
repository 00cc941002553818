package netsetup

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"boxrun/netsetup/dump"
	"boxrun/netsetup/firewall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Flows are the tracked connections that a box's rules decided on. A connection stays translated, or untranslated, as
// at its first packet, so connections made under other rules must be forgotten.
type Flows struct {
	Box   netip.Addr       `json:"box"`
	Ports []firewall.Ports `json:"ports,omitempty"`
}

// commands are the nearest that conntrack(8) has to forget. conntrack fails where there is nothing to delete. At the
// end only connections to and from the box matter.
func (f *Flows) commands() (up, down []string) {
	if f == nil {
		return nil, nil
	}
	to := fmt.Sprintf("conntrack -D -d %[1]s; conntrack -D -r %[1]s", f.Box)
	up = []string{fmt.Sprintf("{ %s; } >/dev/null 2>&1 || true", to)}
	down = []string{fmt.Sprintf("{ %s; conntrack -D -s %s; } >/dev/null 2>&1 || true", to, f.Box)}
	for _, p := range f.Ports {
		up = append(up, fmt.Sprintf("{ %s; } >/dev/null 2>&1 || true", f.deletion(p)))
	}
	return up, down
}

// deletion returns the commands that forget connections to ports of the host. Connections to the same ports of others
// stay.
func (f *Flows) deletion(p firewall.Ports) string {
	ip, port := "$ip", "$port"
	if p.IP.IsValid() {
		ip = p.IP.String()
	}
	if p.First == p.Last {
		port = strconv.Itoa(int(p.First))
	}
	line := fmt.Sprintf("conntrack -D -p %s -d %s --orig-port-dst %s", p.Proto, ip, port)
	if p.First != p.Last {
		line = fmt.Sprintf("for port in {%d..%d}; do %s; done", p.First, p.Last, line)
	}
	if !p.IP.IsValid() {
		line = "for ip in $(ip -o " + f.option() + " addr | awk '{sub(\"/.*\", \"\", $4); print $4}'); do " + line + "; done"
	}
	return line
}

// option is ip's for the family.
func (f *Flows) option() string {
	if f.Box.Is6() {
		return "-6"
	}
	return "-4"
}

// direction is which connections of a box are forgotten.
type direction int

const (
	toBox    direction = iota // connections begun by others
	bothWays                  // and connections begun by the box
)

// forget deletes the tracked connections (tcp, udp and sctp) that rulesets decided on, in a direction. A kernel without a
// list of connections tracks none. The list of all families is read once: the kernel takes its time to find the connections
// of one network among the places for those of all, however few there are.
func (k *Kernel) forget(of rulesets, d direction) error {
	of = slices.DeleteFunc(slices.Clone(of), func(r *ruleset) bool { return r.flows == nil })
	if len(of) == 0 {
		return nil
	}
	tracked, err := dump.Flows()
	if err != nil || len(tracked) == 0 {
		return err
	}
	local, err := AllLocalAddrs()
	if err != nil {
		return err
	}
	return dump.ForgetFlows(slices.DeleteFunc(tracked, func(flow *netlink.ConntrackFlow) bool {
		return !slices.ContainsFunc(of, func(r *ruleset) bool { return r.flows.match(flow, local, d) })
	}))
}

func (f *Flows) match(flow *netlink.ConntrackFlow, local []netip.Addr, d direction) bool {
	from, to, answers := dump.AddrOf(flow.Forward.SrcIP), dump.AddrOf(flow.Forward.DstIP), dump.AddrOf(flow.Reverse.SrcIP)
	proto, known := map[uint8]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp", unix.IPPROTO_SCTP: "sctp"}[flow.Forward.Protocol]
	if !known || to.Is6() != f.Box.Is6() {
		return false
	}
	if f.Box.IsValid() && (to == f.Box || answers == f.Box || d == bothWays && from == f.Box) {
		return true
	}
	return slices.ContainsFunc(f.Ports, func(p firewall.Ports) bool {
		here := p.IP == to || !p.IP.IsValid() && (slices.Contains(local, to) || to.IsLoopback())
		return here && p.Proto == proto && p.First <= flow.Forward.DstPort && flow.Forward.DstPort <= p.Last
	})
}
