package netsetup

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"boxrun/netsetup/firewall"
	"boxrun/netsetup/rules"
)

// Ports plans a box: its three chains, the jumps to them from the chains of [Host], and its veth. A range of ports is a
// single rule, and so are single ports side by side: a new connection passes each rule of each box.
func Ports(b Box) Plan {
	p := Plan{Owner: "boxrun:" + b.Name, Plug: &Plug{Veth: b.Veth, Bridge: b.Bridge}}
	if b.Offload {
		p.Features = &Features{Device: b.Veth}
	}
	p.Chains, p.Rules, p.Flows = b.ruleset()
	if b.Subnet6.IsValid() {
		p.Chains6, p.Rules6, p.Flows6 = b.six().ruleset()
	}
	if slices.ContainsFunc(b.Ports, func(p Port) bool { return p.Proto == "sctp" }) {
		p.Modules = []Modules{{Names: []string{"sctp"}}, {Names: []string{"xt_sctp"}}}
	}
	p.Reserved = reservations(p.Owner, b.Addr, b.Others)
	return p
}

// ruleset returns the chains and rules of the box in the family of its address, and the connections they decide on.
func (b Box) ruleset() ([]Chain, []Rule, *Flows) {
	owner, ranges := "boxrun:"+b.Name, b.ranges()
	chains := []Chain{
		{Table: "mangle", Name: prefixStray + b.Name, Rules: b.strayRules(ranges)},
		{Table: "filter", Name: prefixFilter + b.Name, Rules: b.filterRules(ranges)},
		{Table: "nat", Name: prefixDNAT + b.Name, Rules: b.dnatRules(ranges)},
	}
	jumps := []Rule{
		{Table: "mangle", Chain: chainStray, Spec: marked(owner, "", prefixStray+b.Name)},
		{Table: "filter", Chain: chainBoxes, Spec: marked(owner, fmt.Sprintf("-d %s", b.Addr), prefixFilter+b.Name)},
		{Table: "nat", Chain: chainDNAT, Spec: marked(owner, "", prefixDNAT+b.Name)},
	}
	if !b.Metadata {
		for _, service := range familyOf(b.Addr).metadata() {
			jumps = append(jumps, Rule{Table: "filter", Chain: chainBoxes, Spec: marked(owner, b.toMetadata(service), "DROP")})
		}
	}
	flows := &Flows{Box: b.Addr}
	for _, r := range ranges {
		flows.Ports = append(flows.Ports, r.onHost())
	}
	return chains, jumps, flows
}

// toMetadata matches packets of the box for a cloud's service for the data of instances: behind HTTP are credentials of
// the host. Some clouds resolve names at the same address.
func (b Box) toMetadata(service string) string {
	return fmt.Sprintf("-s %s -d %s -i %s -p tcp --dport 80", b.Addr, service, b.Bridge)
}

// last returns the last port of the range from first on.
func (p Port) last(first uint16) uint16 { return first + p.Count - 1 }

// onHost returns the ports of the host.
func (p Port) onHost() firewall.Ports {
	return firewall.Ports{Proto: p.Proto, IP: p.HostIP, First: p.Host, Last: p.last(p.Host)}
}

// On returns ports as published on the addresses of an interface. A port without an address of its own comes once for
// every address, and so not at all where there are no addresses.
func On(addrs []netip.Addr, ports ...Port) []Port {
	var all []Port
	for _, p := range ports {
		if p.HostIP.IsValid() {
			all = append(all, p)
			continue
		}
		for _, p.HostIP = range addrs {
			if !p.Only4 || p.HostIP.Is4() {
				all = append(all, p)
			}
		}
	}
	return all
}

// ranges returns the ports in the family of the box's address, with ports side by side joined. Ports of a single address
// come before ports of any address; otherwise the order does not depend on the profile's.
func (b Box) ranges() []Port {
	ports := slices.DeleteFunc(slices.Clone(b.Ports), func(p Port) bool {
		return p.HostIP.IsValid() && p.HostIP.Is6() == b.Addr.Is4() || p.Only4 && b.Addr.Is6()
	})
	for i, p := range ports {
		if p.HostIP.IsUnspecified() {
			ports[i].HostIP = netip.Addr{}
		}
		ports[i].Only4 = false // has been decided
	}
	slices.SortFunc(ports, func(a, b Port) int {
		return cmp.Or(b.HostIP.Compare(a.HostIP), cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Host, b.Host))
	})
	return mergePorts(ports)
}

// mergePorts joins each port with the next port where both go to the same distance.
func mergePorts(ports []Port) []Port {
	var merged []Port
	for _, p := range ports {
		if n := len(merged); n > 0 {
			m := &merged[n-1]
			if m.HostIP == p.HostIP && m.Proto == p.Proto && m.last(m.Host)+1 == p.Host && m.last(m.Container)+1 == p.Container {
				m.Count += p.Count
				continue
			}
		}
		merged = append(merged, p)
	}
	return merged
}

// dnatRules returns the rules that translate. A range that keeps its numbers needs no port in the target; any other
// range has the port to count from. Link-local addresses of IPv6 stay the host's own: the host could send no answer of a
// box from there.
func (b Box) dnatRules(ranges []Port) []string {
	var rules []string
	if b.Addr.Is6() && len(ranges) > 0 {
		rules = append(rules, marked("boxrun:"+b.Name, "-d fe80::/10", "RETURN"))
	}
	for _, r := range ranges {
		to := netip.AddrPortFrom(b.Addr, r.Container).String()
		switch {
		case r.Count > 1 && r.Host == r.Container:
			to = b.Addr.String()
		case r.Count > 1:
			to += fmt.Sprintf("-%d/%d", r.last(r.Container), r.Host)
		}
		rules = append(rules, marked("boxrun:"+b.Name, r.addressed(), "DNAT --to-destination "+to))
	}
	return rules
}

// strayRules returns the rules that drop packets for the ports. Only packets in state INVALID come here.
func (b Box) strayRules(ranges []Port) []string {
	var rules []string
	for _, r := range ranges {
		rules = append(rules, marked("boxrun:"+b.Name, r.addressed(), "DROP"))
	}
	return rules
}

// addressed matches packets for the ports of the host.
func (p Port) addressed() string {
	dst := rules.WordsIf(p.HostIP.IsValid(), "-d %s ", p.HostIP)
	return fmt.Sprintf("%s-p %s --dport %s", dst, p.Proto, portRange(p.Host, p.last(p.Host)))
}

// filterRules returns the rules that accept translated packets from whoever may send them, let boxes of a bridge talk
// as a single network, and drop the rest. A box may always reach its own ports. An address of the bridge's subnet that
// comes by another interface is forged.
func (b Box) filterRules(ranges []Port) []string {
	const published = " -m conntrack --ctstate DNAT"
	owner := "boxrun:" + b.Name
	var rules []string
	if b.Subnet.IsValid() {
		rules = append(rules, marked(owner, fmt.Sprintf("-s %s ! -i %s", b.Subnet.Masked(), b.Bridge), "DROP"))
	}
	sources := []string{""}
	if len(b.AllowFrom) > 0 {
		rules = append(rules, marked(owner, fmt.Sprintf("-s %s -i %s%s", b.Addr, b.Bridge, published), "ACCEPT"))
		sources = nil
	}
	for _, from := range b.AllowFrom {
		if familyOf(from.Addr()) != familyOf(b.Addr) {
			continue
		}
		sources = append(sources, fmt.Sprintf("-s %s ", from.Masked()))
	}
	for _, r := range insideRanges(ranges) {
		for _, source := range sources {
			ports := fmt.Sprintf("-p %s --dport %s", r.Proto, portRange(r.Container, r.last(r.Container)))
			rules = append(rules, marked(owner, source+ports+published, "ACCEPT"))
		}
	}
	return append(rules,
		marked(owner, fmt.Sprintf("-i %s -m conntrack ! --ctstate DNAT", b.Bridge), "RETURN"),
		marked(owner, "", "DROP"))
}

// insideRanges returns the ports inside the box for others to reach, each once, however many ports of the host lead
// there. Ports published on 127.0.0.1 are for the host itself, and the host's packets do not pass FORWARD.
func insideRanges(ranges []Port) []Port {
	var inside []Port
	for _, r := range ranges {
		if !r.HostIP.IsLoopback() {
			inside = append(inside, Port{Proto: r.Proto, Container: r.Container, Count: r.Count})
		}
	}
	slices.SortFunc(inside, func(a, b Port) int {
		return cmp.Or(cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Container, b.Container), cmp.Compare(b.Count, a.Count))
	})
	var merged []Port
	for _, r := range inside {
		if n := len(merged); n > 0 && merged[n-1].Proto == r.Proto {
			m := &merged[n-1]
			if end := int(m.Container) + int(m.Count); int(r.Container) <= end {
				m.Count = uint16(max(end, int(r.Container)+int(r.Count)) - int(m.Container))
				continue
			}
		}
		merged = append(merged, r)
	}
	return merged
}

func portRange(first, last uint16) string {
	if first == last {
		return fmt.Sprint(first)
	}
	return fmt.Sprintf("%d:%d", first, last)
}
