package netsetup

import (
	"encoding/json"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Taken gives who has one of the host's ports already: processes that listen on it, and rules of others that send it
// elsewhere, of iptables in either backend and of native nftables. boxrun's own rules do not count: who holds a port by
// them is in the state of the boxes.
func (k *Kernel) Taken(ports []Port) ([]Holder, error) {
	if len(ports) == 0 {
		return nil, nil
	}
	holders, err := Listeners(ports)
	if err != nil {
		return nil, err
	}
	local, err := LocalAddrs()
	if err != nil {
		return nil, err
	}
	used, err := k.rules()
	if err != nil {
		return nil, err
	}
	holders = append(holders, ForeignDNAT(natLines(used), ports, local...)...)
	other, tool, err := k.otherBackend()
	if err != nil {
		return nil, err
	}
	for _, h := range ForeignDNAT(natLines(other), ports, local...) {
		h.By = strings.Replace(h.By, ": -A ", ": "+tool+" -t nat -A ", 1)
		holders = append(holders, h)
	}
	native, err := nativeDNAT(ports, local)
	return append(holders, native...), err
}

func natLines(t tables) []string {
	var lines []string
	for _, chain := range slices.Sorted(maps.Keys(t["nat"])) {
		for _, rule := range t["nat"][chain] {
			lines = append(lines, "-A "+chain+" "+rule)
		}
	}
	return lines
}

// nativeDNAT gives the rules of native nftables that send host ports elsewhere, whether before boxrun's or after: a rule of
// somebody who wants the port. It walks a packet of a client, or of the host to 127.0.0.1, to each address; a rule that
// looks at what is not known here takes no port. Without nft installed none are seen.
func nativeDNAT(ports []Port, local []netip.Addr) ([]Holder, error) {
	rules, ok, err := readNFT()
	rules = rules.only(func(c nftChain) bool { return c.Type == "nat" })
	if err != nil || !ok || len(rules.base) == 0 {
		return nil, err
	}
	external, err := DefaultExternal()
	if err != nil {
		return nil, err
	}
	var found []Holder
	for _, p := range ports {
		h := Holder{Port: p, Proto: p.Proto}
		if h.Number, h.By = rules.taker(p, local, external.Name); h.By != "" {
			h.By = "a rule of nftables: " + RuleText(h.By)
			found = append(found, h)
		}
	}
	return found, nil
}

// taker gives the lowest host port of p that a rule sends elsewhere, and the rule.
func (n nftRules) taker(p Port, local []netip.Addr, external string) (number uint16, rule string) {
	if p.HostIP.IsValid() {
		local = []netip.Addr{p.HostIP}
	}
	for _, number := range n.tellingPorts(p) {
		for _, addr := range local {
			hook := "prerouting"
			packet := Packet{In: external, Src: netip.AddrFrom4([4]byte{203, 0, 113, 1}), Dst: addr, Proto: p.Proto, DPort: number, ToHost: true}
			if addr.IsLoopback() {
				hook, packet.In, packet.Out, packet.Src = "output", "", "lo", addr
			}
			if o := n.through(hook, "nat", packet); o.Rule != "" {
				return number, o.Rule
			}
		}
	}
	return 0, ""
}

// tellingPorts gives those of p that have to be tried: between two numbers that rules name all ports fare alike.
func (n nftRules) tellingPorts(p Port) []uint16 {
	first, last := int(p.Host), int(p.Host)+int(p.Count)-1
	tell := map[int]bool{first: true}
	note := func(raw []byte) {
		for _, word := range regexp.MustCompile(`[0-9]+`).FindAllString(string(raw), -1) {
			if named, err := strconv.Atoi(word); err == nil {
				tell[named], tell[named+1] = true, true
			}
		}
	}
	for _, c := range n.base {
		for _, raw := range n.spoken(c) {
			note(raw)
		}
	}
	var ports []uint16
	for _, number := range slices.Sorted(maps.Keys(tell)) {
		if first <= number && number <= last {
			ports = append(ports, uint16(number))
		}
	}
	return ports
}

// spoken gives all that the rules and sets of a base chain's table say.
func (n nftRules) spoken(c nftChain) (said []json.RawMessage) {
	table := nftKey(c.Family, c.Table, "")
	for key, rules := range n.chains {
		for _, r := range rules {
			for _, expr := range r.Expr {
				if strings.HasPrefix(key, table) {
					said = slices.AppendSeq(said, maps.Values(expr))
				}
			}
		}
	}
	for key, elements := range n.sets {
		if strings.HasPrefix(key, table) {
			said = append(said, elements...)
		}
	}
	return said
}
