package netsetup

import (
	"errors"
	"slices"

	"boxrun/netsetup/firewall"
	"boxrun/netsetup/rules"
)

// Taken returns who has any of the host's ports already: processes that listen on a port, and rules of others that
// send a port elsewhere. boxrun's own rules are left out, as the state of the boxes tells who holds a port by them.
// Rules of native nftables and of the other backend of iptables are left out, too: see firewall.State.Translation. So are rules
// of IPv6.
func (k *Kernel) Taken(ports []Port) ([]Holder, error) {
	holders, err := Listeners(ports)
	if err != nil {
		return nil, err
	}
	if k.kept[v4].Tables() == nil && !rules.Translating() {
		return holders, nil
	}
	tables, err := k.rules(v4)
	if err != nil {
		return nil, err
	}
	local, err := LocalAddrs()
	if err != nil {
		return nil, err
	}
	ports = slices.DeleteFunc(slices.Clone(ports), func(p Port) bool { return p.HostIP.Is6() })
	asked := make([]firewall.Ports, len(ports))
	for i, p := range ports {
		asked[i] = p.onHost()
	}
	for _, d := range firewall.Diversions(tables.Table("nat"), asked, local...) {
		p := ports[d.Asked]
		holders = append(holders, Holder{Port: p, Number: d.Port, Proto: p.Proto, By: d.By})
	}
	return holders, nil
}

// Firewall returns the rules of the whole host: those of boxrun's iptables as k knows them, and all others.
func (k *Kernel) Firewall() (firewall.State, error) {
	used, err := k.rules(v4)
	if err != nil && !errors.Is(err, rules.ErrIncompatible) {
		return firewall.State{}, err
	}
	return firewall.Beside(used)
}
