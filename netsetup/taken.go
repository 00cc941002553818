package netsetup

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"

	"boxrun/netsetup/firewall"
	"boxrun/netsetup/rules"
)

// Taken returns who has any of the host's ports already: processes that listen on a port, and rules of others that
// send a port elsewhere. boxrun's own rules are left out, as the state of the boxes tells who holds a port by them.
// Rules of native nftables and of the other backend of iptables are left out, too: see firewall.State.Translation.
func (k *Kernel) Taken(ports []Port) ([]Holder, error) {
	holders, err := Listeners(ports)
	for _, f := range families() {
		if err != nil {
			break
		}
		of := slices.DeleteFunc(slices.Clone(ports), func(p Port) bool { return p.HostIP.Is6() != (f == v6) })
		var diverted []Holder
		diverted, err = k.diverted(f, of)
		holders = append(holders, diverted...)
	}
	return holders, err
}

// diverted returns the rules of others in a family that send any of the ports elsewhere.
func (k *Kernel) diverted(f family, ports []Port) (holders []Holder, err error) {
	if len(ports) == 0 || k.kept[f].Tables() == nil && !rules.Translating(string(f)) {
		return nil, nil
	}
	tables, err := k.rules(f)
	local, localErr := localAddrs(f.inet())
	if err := cmp.Or(err, localErr); err != nil {
		return nil, err
	}
	asked := make([]firewall.Ports, len(ports))
	for i, p := range ports {
		if asked[i] = p.onHost(); p.HostIP.IsUnspecified() {
			asked[i].IP = netip.Addr{}
		}
	}
	for _, d := range firewall.Diversions(tables.Table("nat"), asked, local...) {
		p := ports[d.Asked]
		holders = append(holders, Holder{Port: p, Number: d.Port, Proto: p.Proto, By: d.By})
	}
	return holders, nil
}

// Rivals returns the rules of others that decide beside boxrun's, of IPv6 as well if asked for.
func (k *Kernel) Rivals(six bool) (firewall.State, error) {
	var used []rules.Tables
	of := []family{v4}
	if six {
		of = families() // ip6tables may have gone since the box was started
	}
	for _, f := range of {
		tables, err := k.rules(f)
		if err != nil && !errors.Is(err, rules.ErrIncompatible) {
			return firewall.State{}, err
		}
		used = append(used, tables)
	}
	all, err := firewall.Beside(k.kept[v4].Memory, used...)
	return all.Rivals(), err
}
