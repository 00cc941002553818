package netsetup

import (
	"maps"
	"slices"
)

// Taken gives who has one of the host's ports already: processes that listen on it, and rules of others that send it
// elsewhere. boxrun's own rules do not count: who holds a port by them is in the state of the boxes. Rules of native nftables
// and of the other backend of iptables are no part of it: which come first is told by Firewall.Translation.
func (k *Kernel) Taken(ports []Port) ([]Holder, error) {
	listeners, err := Listeners(ports)
	if err != nil {
		return nil, err
	}
	all, err := k.rules()
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, chain := range slices.Sorted(maps.Keys(all["nat"])) {
		for _, rule := range all["nat"][chain] {
			lines = append(lines, "-A "+chain+" "+rule)
		}
	}
	local, err := LocalAddrs()
	if err != nil {
		return nil, err
	}
	return append(listeners, ForeignDNAT(lines, ports, local...)...), nil
}
