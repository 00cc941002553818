package netsetup

import (
	"fmt"
	"net/netip"

	"boxrun/netsetup/dump"
	"boxrun/netsetup/offload"
	"boxrun/netsetup/rules"
)

// The way of a packet, in iptables' words. Names and comments never change: what an older boxrun left is found by them.
//
//	nat     PREROUTING  ! -d 127.0.0.0/8 to this host -> BOXRUN-DNAT    first, or a neighbour reaches what is on lo
//	nat     OUTPUT      to this host                  -> BOXRUN-DNAT    first
//	nat     BOXRUN-DNAT       -> BOXRUN-DN-box                          DNAT to the box
//	nat     POSTROUTING -> BOXRUN-SNAT                                  MASQUERADE: out, hairpin and localhost
//	filter  FORWARD     -> BOXRUN-FWD                                   first, before Docker's DROP
//	filter  BOXRUN-FWD  -> BOXRUN-REPLY                                 ACCEPT what belongs to a connection
//	                    -> BOXRUN-BOXES -d addr -> BOXRUN-FW-box        DROP forged, ACCEPT published, RETURN neighbours, DROP
//	                    -> BOXRUN-OUT                                   ACCEPT what boxes begin
//	raw     PREROUTING  -> BOXRUN-GUARD                                 DROP what boxes send to and from 127.0.0.0/8
//	mangle  FORWARD     -> BOXRUN-MSS                                   TCPMSS, for paths with a smaller MTU
//	mangle  FORWARD, PREROUTING                                         marks: see [Answers]
//	mangle  INPUT       INVALID -> BOXRUN-STRAY -> BOXRUN-IN-box        DROP what is for a published port
//
// All jumps but the jump of POSTROUTING come before the rules of others, some of which accept packets: Calico's all of connections.
// The chains under BOXRUN-FWD keep the three kinds of rules in order, whichever bridge or box came, or was repaired,
// last.
const (
	chainDNAT  = "BOXRUN-DNAT"
	chainSNAT  = "BOXRUN-SNAT"
	chainFwd   = "BOXRUN-FWD"
	chainReply = "BOXRUN-REPLY"
	chainBoxes = "BOXRUN-BOXES"
	chainOut   = "BOXRUN-OUT"
	chainGuard = "BOXRUN-GUARD"
	chainMSS   = "BOXRUN-MSS"
	chainStray = "BOXRUN-STRAY"

	prefixDNAT   = rules.DNATPrefix // and the box's name
	prefixFilter = "BOXRUN-FW-"
	prefixStray  = "BOXRUN-IN-"
	prefixWay    = "BOXRUN-WAY-" // and the bridge's name
)

// marked returns a rule with its owner's mark, in iptables' order: matches, comment, target.
func marked(owner, matches, target string) string {
	if matches != "" {
		matches += " "
	}
	return fmt.Sprintf("%s-m comment --comment %s -j %s", matches, owner, target)
}

// Host plans what serves all bridges. The plan depends on nothing but the host.
func Host() Plan {
	return Plan{
		Owner:       hostOwner,
		Modules:     hostModules(),
		Sysctls:     []Sysctl{forwarding()},
		ReversePath: &ReversePath{},
		Chains:      append([]Chain{{Table: "raw", Name: chainGuard, Shared: true}}, hostChains()...),
		Rules:       hostRules(v4),
	}
}

// hostOwner marks the rules that serve all bridges.
const hostOwner = "boxrun:host"

// hostChains are the chains for all bridges and boxes in either family. The chain of guards is of IPv4 alone: the kernel
// itself drops what comes to or from ::1 by another device than lo.
func hostChains() []Chain {
	return []Chain{
		{Table: "mangle", Name: chainMSS, Shared: true},
		{Table: "mangle", Name: chainStray, Shared: true},
		{Table: "filter", Name: chainReply, Shared: true},
		{Table: "filter", Name: chainBoxes, Shared: true},
		{Table: "filter", Name: chainOut, Shared: true},
		{Table: "filter", Name: chainFwd, Rules: []string{
			marked(hostOwner, "", chainReply),
			marked(hostOwner, "", chainBoxes),
			marked(hostOwner, "", chainOut),
		}},
		{Table: "nat", Name: chainSNAT, Shared: true},
		{Table: "nat", Name: chainDNAT, Shared: true},
	}
}

// invalid matches packets that connection tracking cannot place, such as a TCP segment outside the window. The kernel
// translates no such packet: a packet for a published port would reach the host itself, and the host's RST would end
// the connection; a packet of a box would leave with the address of the box.
const invalid = "-m conntrack --ctstate INVALID"

// hostRules are the jumps from the built-in chains.
func hostRules(f family) []Rule {
	const owner, local = hostOwner, "-m addrtype --dst-type LOCAL"
	list := []Rule{
		{Table: "mangle", Chain: "FORWARD", First: true, Spec: marked(owner, "", chainMSS)},
		{Table: "mangle", Chain: "INPUT", First: true, Spec: marked(owner, invalid, chainStray)},
		{Table: "filter", Chain: "FORWARD", First: true, Spec: marked(owner, "", chainFwd)},
		{Table: "nat", Chain: "POSTROUTING", Spec: marked(owner, "", chainSNAT)},
		{Table: "nat", Chain: "OUTPUT", First: true, Spec: marked(owner, f.leaving()+local, chainDNAT)},
		{Table: "nat", Chain: "PREROUTING", First: true, Spec: marked(owner, f.arriving()+local, chainDNAT)},
	}
	if f == v6 {
		return list
	}
	return append([]Rule{{Table: "raw", Chain: "PREROUTING", First: true, Spec: marked(owner, "", chainGuard)}}, list...)
}

// hostModules are modules that the kernel loads late or, in a container, not at all. br_netfilter is left out: nothing
// here needs br_netfilter, and the module would push the traffic of other bridges into other people's rules.
func hostModules() []Modules {
	return []Modules{
		{Names: []string{"bridge"}},
		{Names: []string{"iptable_raw", "iptable_mangle", "iptable_filter", "iptable_nat"}, Legacy: true},
	}
}

// forwarding makes the host a router. With a change of the setting the kernel resets accept_redirects for all devices,
// and forwarding for each device.
func forwarding() Sysctl {
	return Sysctl{
		Key:   "net.ipv4.ip_forward",
		Value: "1",
		Drags: []string{"/proc/sys/net/ipv4/conf/*/forwarding", "/proc/sys/net/ipv4/conf/all/accept_redirects"},
	}
}

// Bridge plans a bridge: the device, the file by which Apptainer finds the bridge, and its rules in the chains of
// [Host]. The plan of Host must be in place. The device's route_localnet is needed for ports published on 127.0.0.1.
// route_localnet comes after the guard that keeps boxes from the host's own 127.0.0.1. A new device forwards by the
// host's setting for new devices, which may be 0 beside an ip_forward of 1.
func Bridge(n Network) Plan {
	p := Plan{
		Owner:    bridgeAlias(n.Bridge),
		Managers: unmanaged(n),
		Device:   device(n),
		Zone:     &Zone{Device: n.Bridge},
		Conflist: conflist(n),
		Answers:  &Answers{Bridge: n.Bridge, Subnet: n.Subnet, Mask: n.Marks},
		Localnet: &Sysctl{Key: deviceKey(n.Bridge, "route_localnet"), Value: "1"},

		Forwarding: &Sysctl{Key: deviceKey(n.Bridge, "forwarding"), Value: "1"},
	}
	if n.Offload.In() {
		p.Features = &Features{offload.Turn{Device: n.Bridge}}
	}
	p.Rules = bridgeRules(n, v4)
	if n.Subnet6.IsValid() {
		p.Settings6 = bridgeSettings6(n.Bridge)
		p.Address6 = &Address{Device: n.Bridge, Prefix: netip.PrefixFrom(n.Gateway6(), n.Subnet6.Bits())}
		p.Rules6 = bridgeRules(n, v6)
		p.Answers6 = &Answers{Bridge: n.Bridge, Subnet: n.Subnet6.Masked(), Mask: n.Marks}
	}
	return p
}

// bridgeRules returns a bridge's rules, what protects first.
func bridgeRules(n Network, f family) []Rule {
	owner, subnet := bridgeAlias(n.Bridge), n.subnet(f)
	in, out := "-i "+n.Bridge, "-o "+n.Bridge
	const established = " -m conntrack --ctstate RELATED,ESTABLISHED"
	const syn, clamp = " -p tcp --tcp-flags SYN,RST SYN", "TCPMSS --clamp-mss-to-pmtu"
	list := []Rule{
		{Table: "mangle", Chain: chainMSS, Spec: marked(owner, in+syn, clamp)},
		{Table: "mangle", Chain: chainMSS, Spec: marked(owner, out+syn, clamp)},
		{Table: "filter", Chain: chainReply, Spec: marked(owner, out+established, "ACCEPT")},
		{Table: "filter", Chain: chainReply, Spec: marked(owner, in+" "+f.tracked()+invalid, "DROP")},
		{Table: "filter", Chain: chainOut, Spec: marked(owner, in, "ACCEPT")},
		{Table: "nat", Chain: chainSNAT, Spec: marked(owner, fmt.Sprintf("-s %s ! -d %[1]s", subnet), "MASQUERADE")},
		{Table: "nat", Chain: chainSNAT, Spec: marked(owner, translated(subnet.String(), subnet), "MASQUERADE")},
	}
	if f == v6 { // the kernel keeps loopback apart, and nothing is translated from there
		return list
	}
	guards := []Rule{
		{Table: "raw", Chain: chainGuard, Spec: marked(owner, "-d 127.0.0.0/8 "+in, "DROP")},
		{Table: "raw", Chain: chainGuard, Spec: marked(owner, "-s 127.0.0.0/8 "+in, "DROP")},
	}
	from := translated("127.0.0.0/8", subnet)
	return append(append(guards, list...), Rule{Table: "nat", Chain: chainSNAT, Spec: marked(owner, from, "MASQUERADE")})
}

// translated matches packets sent to a published address that now go to a box, from a source to which the box's answer
// would take another way.
func translated(from string, subnet netip.Prefix) string {
	return fmt.Sprintf("-s %s -d %s -m conntrack --ctstate DNAT", from, subnet)
}

// device returns the bridge, with a MAC made of its address, as CNI does: unique among the host's bridges, and the
// same each time, so that neighbours' ARP entries stay true.
func device(n Network) *Device {
	gw := n.Gateway().As4()
	return &Device{
		Name:    n.Bridge,
		Address: netip.PrefixFrom(n.Gateway(), n.Subnet.Bits()),
		MTU:     n.MTU,
		MAC:     fmt.Sprintf("0a:58:%02x:%02x:%02x:%02x", gw[0], gw[1], gw[2], gw[3]),
		Alias:   bridgeAlias(n.Bridge),
	}
}

// MACOfOwn returns the MAC of the bridge where boxrun has made the bridge, or is about to; "" for somebody else's bridge,
// which may change its MAC.
func (n Network) MACOfOwn() string {
	d := device(n)
	link, err := dump.OfHost().LinkByName(n.Bridge)
	if err == nil && link.Attrs().Alias != d.Alias {
		return ""
	}
	return d.MAC
}

// bridgeAlias marks a bridge made by boxrun, and the rules of a bridge.
func bridgeAlias(bridge string) string { return rules.MarkPrefix + bridge }
