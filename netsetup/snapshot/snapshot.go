package snapshot

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"boxrun/netsetup/dump"
	"boxrun/netsetup/rules"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Snapshot is the host's network at a moment: links, addresses, routes, routing rules, the firewall, sysctls. Left out
// are things that come and go by themselves, and things with boxrun's name, as other boxes may come up meanwhile.
type Snapshot struct {
	facts []fact // in an order for setting them: a link before its addresses
}

// fact is a thing about the host.
type fact struct {
	thing string // "address 192.0.2.1/24 on eth0": once in a snapshot
	on    string // another thing without which this thing cannot be; "" for none
	value string // "" for a thing that is there or not
	set   string // the command to have the thing with the value; "" for none
	unset string // the command to take the thing away; "" for none
}

// Change is a difference between two snapshots.
type Change struct {
	What   string // "address 192.0.2.1/24 on eth0 is gone"
	Revert string // the command to take the change back; "" for none
}

// Look takes a snapshot of the network namespace of the process. A part without a program on the host (iptables, nft)
// is left out.
func Look() (Snapshot, error) {
	var s Snapshot
	for _, part := range []func() ([]fact, error){devices, firewallFacts, netSysctls} {
		facts, err := part() // zero facts are left out
		if err != nil {
			return Snapshot{}, fmt.Errorf("looking at the host's network: %w", err)
		}
		s.facts = append(s.facts, slices.DeleteFunc(facts, func(f fact) bool { return f == fact{} })...)
	}
	return s, nil
}

// Changes returns the changes since s was taken. The commands go in the order given: what is new is taken away, last
// first, then what is gone or different is restored, first first.
func (s Snapshot) Changes(now Snapshot) []Change {
	before, after := byThing(s.facts), byThing(now.facts)
	var changes []Change
	for _, f := range slices.Backward(now.facts) {
		_, known := before[f.thing]
		_, carried := before[f.on]
		if !known && (f.on == "" || carried) {
			changes = append(changes, Change{What: f.thing + " is new", Revert: f.unset})
		}
	}
	for _, f := range s.facts {
		there, known := after[f.thing]
		_, carried := after[f.on]
		switch {
		case !known && (f.on == "" || carried):
			changes = append(changes, Change{What: f.thing + " is gone", Revert: f.set})
		case known && there.value != f.value:
			changes = append(changes, Change{What: f.thing + changed(f.value, there.value), Revert: f.set})
		}
	}
	return changes
}

func byThing(facts []fact) map[string]fact {
	m := make(map[string]fact, len(facts))
	for _, f := range facts {
		m[f.thing] = f
	}
	return m
}

// changed says from what to what, where a few words suffice.
func changed(from, to string) string {
	if strings.Contains(from+to, "\n") {
		return " is different"
	}
	return fmt.Sprintf(" is %s, was %s", to, from)
}

// devices returns links, addresses, routes and routing rules.
func devices() ([]fact, error) {
	h := dump.OfHost()
	links, err := dump.Links(h)
	if err != nil {
		return nil, fmt.Errorf("listing links: %w", err)
	}
	names := dump.Names(links)
	var facts []fact
	links = slices.DeleteFunc(links, passing)
	for _, l := range links {
		facts = append(facts, linkFacts(l, names)...)
	}
	for _, l := range links {
		addrs, err := dump.Addrs(h, l, netlink.FAMILY_ALL)
		if err != nil {
			return nil, fmt.Errorf("listing addresses: %w", err)
		}
		for _, a := range addrs {
			facts = append(facts, addrFact(a, l.Attrs().Name))
		}
	}
	routing, err := routingFacts(h, dump.Names(links))
	return append(facts, routing...), err
}

// passing reports whether a link is another container's, or boxrun's own bridge: such links come and go while a box
// boots.
func passing(l netlink.Link) bool {
	a := l.Attrs()
	return strings.HasPrefix(a.Alias, "boxrun:") || l.Type() == "veth" && a.MasterIndex != 0 && a.NetNsID >= 0
}

func linkFacts(l netlink.Link, names map[int]string) []fact {
	a := l.Attrs()
	link := "link " + a.Name
	property := func(name, value, words string) fact {
		return fact{thing: name + " of " + a.Name, on: link, value: value, set: "ip link set " + a.Name + " " + words}
	}
	facts := []fact{
		{thing: link, unset: "ip link del " + a.Name},
		property("mtu", fmt.Sprint(a.MTU), fmt.Sprintf("mtu %d", a.MTU)),
	}
	if len(a.HardwareAddr) == 6 && a.Name != "lo" {
		facts = append(facts, property("hardware address", a.HardwareAddr.String(), "address "+a.HardwareAddr.String()))
	}
	master, words := "none", "nomaster"
	if name := names[a.MasterIndex]; name != "" {
		master, words = name, "master "+name
	}
	facts = append(facts, property("master", master, words))
	state := "down"
	if a.RawFlags&unix.IFF_UP != 0 {
		state = "up"
	}
	return append(facts, property("state", state, state))
}

// addrFact returns the zero fact for addresses made by the kernel itself: link-local and temporary addresses of IPv6.
func addrFact(a netlink.Addr, link string) fact {
	prefix := dump.PrefixOf(a.IPNet)
	passes := prefix.Addr().IsLinkLocalUnicast() || a.Flags&unix.IFA_F_TEMPORARY != 0
	if !prefix.IsValid() || prefix.Addr().Is6() && passes {
		return fact{}
	}
	words := prefix.String()
	if a.Peer != nil && dump.PrefixOf(a.Peer) != prefix {
		words = prefix.Addr().String() + " peer " + dump.PrefixOf(a.Peer).String()
	}
	more := rules.WordsIf(a.Broadcast != nil, " brd %s", a.Broadcast)
	more += rules.WordsIf(a.Label != "" && a.Label != link, " label %s", a.Label)
	return fact{
		thing: fmt.Sprintf("address %s on %s", words, link), on: "link " + link,
		set:   fmt.Sprintf("ip addr add %s%s dev %s", words, more, link),
		unset: fmt.Sprintf("ip addr del %s dev %s", words, link),
	}
}

// routingFacts returns the routes over the named links, and the routing rules, of both families.
func routingFacts(h *netlink.Handle, names map[int]string) ([]fact, error) {
	var facts []fact
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := dump.Routes(h, family, &netlink.Route{}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return nil, fmt.Errorf("listing routes: %w", err)
		}
		for _, r := range routes {
			facts = append(facts, routeFact(r, family, names))
		}
		rules, err := dump.Rules(h, family)
		if err != nil {
			return nil, fmt.Errorf("listing routing rules: %w", err)
		}
		for _, r := range rules {
			facts = append(facts, ruleFact(r, family))
		}
	}
	return facts, nil
}

// ipFact is a thing made by "ip OBJECT add WORDS" and taken away by "ip OBJECT del WORDS".
func ipFact(family int, object, name, words string) fact {
	command, of := "ip ", ""
	if family == netlink.FAMILY_V6 {
		command, of = "ip -6 ", "IPv6 "
	}
	return fact{
		thing: of + name + " " + words, set: command + object + " add " + words, unset: command + object + " del " + words,
	}
}

// routeFact returns the zero fact for the routes made by the kernel for an address.
func routeFact(r netlink.Route, family int, names map[int]string) fact {
	kinds := map[int]string{
		unix.RTN_UNICAST: "", unix.RTN_BLACKHOLE: "blackhole ",
		unix.RTN_UNREACHABLE: "unreachable ", unix.RTN_PROHIBIT: "prohibit ",
	}
	kind, known := kinds[r.Type]
	via := names[r.LinkIndex]
	if !known || r.Protocol == unix.RTPROT_KERNEL || r.LinkIndex != 0 && via == "" {
		return fact{}
	}
	f := ipFact(family, "route", "route", kind+routeWords(r, names))
	if via != "" {
		f.on = "link " + via
	}
	return f
}

// routeWords returns a route in the words of ip-route(8).
func routeWords(r netlink.Route, names map[int]string) string {
	words := "default"
	if dst := dump.PrefixOf(r.Dst); dst.IsValid() && (dst.Bits() > 0 || r.Via != nil) { // "default" is of the router's family
		words = dst.String()
	}
	words += hopWords(r.Gw, r.Via, names[r.LinkIndex])
	words += rules.WordsIf(r.Table != unix.RT_TABLE_MAIN && r.Table != 0, " table %d", r.Table)
	words += rules.WordsIf(r.Src != nil, " src %s", r.Src)
	words += rules.WordsIf(r.Priority != 0, " metric %d", r.Priority)
	words += rules.WordsIf(r.MTU != 0, " mtu %d", r.MTU)
	words += rules.WordsIf(r.Protocol != unix.RTPROT_BOOT, " proto %d", r.Protocol) // ip-route takes no word for BOOT
	words += rules.WordsIf(r.Scope == unix.RT_SCOPE_LINK && r.Gw != nil, " scope link")
	words += rules.WordsIf(r.Flags&unix.RTNH_F_ONLINK != 0, " onlink")
	for _, hop := range r.MultiPath {
		words += " nexthop" + hopWords(hop.Gw, hop.Via, names[hop.LinkIndex]) + fmt.Sprintf(" weight %d", hop.Hops+1)
	}
	return words
}

// hopWords returns the router, which may be of the other family, and the device.
func hopWords(gateway net.IP, via netlink.Destination, link string) string {
	family := rules.WordsIf(via != nil, " inet6")
	router := dump.Gateway(gateway, via)
	return rules.WordsIf(router.IsValid(), " via%s %s", family, router) + rules.WordsIf(link != "", " dev %s", link)
}

// ruleFact returns a rule in the words of ip-rule(8).
func ruleFact(r netlink.Rule, family int) fact {
	words := fmt.Sprintf("pref %d", r.Priority)
	words += rules.WordsIf(r.Invert, " not") + " from " + orAll(r.Src) + " to " + orAll(r.Dst)
	words += rules.WordsIf(r.IifName != "", " iif %s", r.IifName) + rules.WordsIf(r.OifName != "", " oif %s", r.OifName)
	if r.Mark != 0 || r.Mask != nil && *r.Mask != 0 {
		words += fmt.Sprintf(" fwmark %#x", r.Mark)
		if r.Mask != nil {
			words += fmt.Sprintf("/%#x", *r.Mask)
		}
	}
	words += portWords(r) + rules.WordsIf(r.Tos != 0, " dsfield %#x", r.Tos) + rules.WordsIf(r.TunID != 0, " tun_id %d", r.TunID)
	words += rules.WordsIf(r.SuppressPrefixlen >= 0, " suppress_prefixlength %d", r.SuppressPrefixlen)
	words += rules.WordsIf(r.SuppressIfgroup >= 0, " suppress_ifgroup %d", r.SuppressIfgroup)
	words += rules.WordsIf(r.Flow > 0, " realms %d/%d", r.Flow>>16, r.Flow&0xffff)
	return ipFact(family, "rule", "routing rule", words+" "+actionWords(r))
}

// portWords returns what a rule asks of users and ports.
func portWords(r netlink.Rule) (words string) {
	words = rules.WordsIf(r.IPProto != 0, " ipproto %d", r.IPProto)
	if r.UIDRange != nil {
		words += fmt.Sprintf(" uidrange %d-%d", r.UIDRange.Start, r.UIDRange.End)
	}
	if r.Sport != nil {
		words += fmt.Sprintf(" sport %d-%d", r.Sport.Start, r.Sport.End)
	}
	if r.Dport != nil {
		words += fmt.Sprintf(" dport %d-%d", r.Dport.Start, r.Dport.End)
	}
	return words
}

// actionWords returns what happens to the packets of a rule.
func actionWords(r netlink.Rule) string {
	word := map[uint8]string{
		unix.RTN_BLACKHOLE: "blackhole", unix.RTN_UNREACHABLE: "unreachable", unix.RTN_PROHIBIT: "prohibit",
		dump.Nop: "nop", dump.VRF: "l3mdev",
	}[r.Type]
	switch {
	case r.Goto >= 0:
		return fmt.Sprintf("goto %d", r.Goto)
	case word != "":
		return word
	}
	return fmt.Sprintf("lookup %d", r.Table)
}

func orAll(n *net.IPNet) string {
	if p := dump.PrefixOf(n); p.IsValid() {
		return p.String()
	}
	return "all"
}

// firewallFacts returns the chains and rules of iptables and ip6tables, and all tables of nft but iptables' own.
func firewallFacts() ([]fact, error) {
	var facts []fact
	var known []string // tables of nft told of by iptables
	for _, family := range []string{"ip", "ip6"} {
		program := family + "tables" // iptables, ip6tables
		out, err := runIfThere(program + "-save")
		if err != nil {
			return nil, err
		}
		tables, _ := rules.Parse(program, out) // nft tells of tables iptables cannot read
		for _, t := range tables {
			facts = append(facts, filterFacts(t)...)
		}
		if strings.Contains(out, "(nf_tables)") {
			for _, table := range []string{"filter", "nat", "mangle", "raw", "security"} {
				known = append(known, family+" "+table)
			}
		}
	}
	out, err := runIfThere("nft", "-s", "list", "ruleset")
	return append(facts, tableFacts(out, known)...), err
}

// runIfThere returns the output of a program, "" where the host has no such program.
func runIfThere(name string, args ...string) (string, error) {
	if _, err := exec.LookPath(name); err != nil {
		return "", nil
	}
	return rules.Run("", name, args...)
}

// filterFacts returns the chains and rules of a table, but boxrun's. The same rule twice is two facts.
func filterFacts(t *rules.Table) []fact {
	var facts []fact
	command := t.Program + " -t " + t.Name + " "
	for _, c := range t.Chains {
		if !strings.HasPrefix(c.Name, rules.ChainPrefix) {
			facts = append(facts, chainFact(command, c))
		}
	}
	times := map[string]int{}
	for _, c := range t.Chains {
		for i, r := range c.Rules {
			words := c.Name + " " + r.Printed
			if strings.Contains(words, rules.ChainPrefix) || strings.Contains(words, rules.MarkPrefix) {
				continue
			}
			f := fact{
				thing: "rule " + command + "-A " + words, unset: command + "-D " + words,
				set: fmt.Sprintf("%s-I %s %d %s", command, c.Name, i+1, r.Printed),
			}
			if times[f.thing]++; times[f.thing] > 1 {
				f.thing += fmt.Sprintf(" (number %d)", times[f.thing])
			}
			facts = append(facts, f)
		}
	}
	return facts
}

// chainFact returns a chain, or the policy of a built-in chain. A built-in chain with the policy ACCEPT appears with
// its table and makes no difference.
func chainFact(command string, c *rules.Chain) fact {
	if c.Policy == "-" {
		return fact{thing: "chain " + command + c.Name, set: command + "-N " + c.Name, unset: command + "-X " + c.Name}
	}
	f := fact{thing: "policy of " + command + c.Name, value: c.Policy, set: command + "-P " + c.Name + " " + c.Policy}
	if c.Policy == "ACCEPT" {
		f.on = "its own table" // never there: neither new nor gone is worth a word
	} else {
		f.unset = command + "-P " + c.Name + " ACCEPT"
	}
	return f
}

// tableFacts reads the output of nft list ruleset, but for the known tables.
func tableFacts(text string, known []string) []fact {
	var facts []fact
	for _, block := range strings.SplitAfter(text, "\n}\n") {
		at := strings.Index("\n"+block, "\ntable ") // behind nft's remarks on the table
		if at < 0 {
			continue
		}
		block = block[at:]
		name, _, _ := strings.Cut(strings.TrimPrefix(block, "table "), " {")
		if slices.Contains(known, name) {
			continue
		}
		facts = append(facts, fact{
			thing: "nft table " + name, value: block, unset: "nft delete table " + name,
			set: fmt.Sprintf("nft -f - <<'END'\ntable %s\ndelete table %s\n%sEND", name, name, block),
		})
	}
	return facts
}

// netSysctls returns the settings below net. Settings of a device that comes or goes are no difference, nor are
// settings that cannot be read.
func netSysctls() ([]fact, error) {
	const dir = "/proc/sys/net"
	var facts []fact
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil || e.IsDir():
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil || e.Name() == "nf_conntrack_count" || e.Name() == "mtu" { // the latter follows the link's own
			return nil
		}
		key, value := strings.TrimPrefix(path, "/proc/sys/"), strings.Join(strings.Fields(string(text)), " ")
		facts = append(facts, fact{
			thing: "sysctl " + key, on: "the setting itself", // never there: neither new nor gone is worth a word
			value: value, set: fmt.Sprintf("sysctl -w '%s=%s'", key, value),
		})
		return nil
	})
	return facts, err
}
