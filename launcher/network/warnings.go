package network

import (
	"errors"
	"fmt"
	"slices"

	"boxrun/launcher/box"
	"boxrun/launcher/fault"
	"boxrun/launcher/lan"
	"boxrun/launcher/list"
	"boxrun/launcher/passage"
	"boxrun/launcher/storage"
	"boxrun/netsetup"
	"boxrun/netsetup/led"
)

// RepairCommand repairs everything of boxrun's on the host.
const RepairCommand = passage.RepairCommand

// LookAhead looks for everything on the host at odds with the box's profile that does not keep the box from starting:
// overlapping networks, ports published on addresses the host lacks, published ports used by clients on the host, files
// written by two boxes, and other firewalls. Such a firewall may decide after boxrun's rules: a drop in an nftables chain of
// another table is final, and only the administrator can let the packet pass. Failing to find out is worth a warning line, and
// no more. The rules are in place for the address reserved. What is returned notes all, once the box has its veth.
func LookAhead(s *box.Store, k *netsetup.Kernel, b *box.Box) (warn func()) {
	k.Reread()
	reserved, found := b.Addr, slices.Concat(
		heed(b, "packets for the box may go elsewhere", func(b *box.Box) ([]fault.Caution, error) { return cautionsOfOverlap(s, k, b) }),
		heed(b, "ports may be published on addresses that this host has not", cautionsOfNowhere),
		heed(b, "published ports may be in use on the host", cautionsOfListeners),
		heed(b, "other boxes may have this one's files", func(b *box.Box) ([]fault.Caution, error) { return cautionsOfTrees(s, b) }),
		lan.Cautions(b.Parent),
		heed(b, "other firewalls of this host may be in the way", func(b *box.Box) ([]fault.Caution, error) { return cautionsOfFirewalls(k, b) }),
	)
	return func() {
		if b.Addr != reserved {
			LookAhead(s, k, b)()
			return
		}
		all := slices.Concat(found, heed(b, "the host's own settings may be in the way", Obstacles))
		for i, c := range all { // consecutive cautions with the same hint share a line for the hint
			s.Notef("%s: warning: %s", b.Name, c.Text)
			if last := i+1 == len(all); c.Hint != "" && (last || all[i+1].Hint != c.Hint) {
				s.Notef("hint: %s", c.Hint)
			}
		}
	}
}

// heed returns what find finds. blind is what may be wrong where that fails.
func heed(b *box.Box, blind string, find func(*box.Box) ([]fault.Caution, error)) []fault.Caution {
	found, err := find(b)
	if err != nil {
		found = append(found, fault.Caution{Text: fmt.Sprintf("%s: %v", blind, err)})
	}
	return found
}

// cautionsOfOverlap returns a caution for what leads packets for the box elsewhere: a route or an address that came after
// the box, in the box's subnet, or a rule.
func cautionsOfOverlap(s *box.Store, k *netsetup.Kernel, b *box.Box) ([]fault.Caution, error) {
	if !b.Bridged() {
		return nil, nil
	}
	if err := k.Overlap(Of(s, b)); err != nil {
		return []fault.Caution{{Text: err.Error() + ": packets for one of the two go to the other",
			Hint: "take that away, or choose another network.subnet, and with it another network.bridge"}}, nil
	}
	lost, err := led.Astray(b.Profile.Network.Bridge, b.Addrs()...)
	return list.Map(lost, func(d led.Detour) fault.Caution { return fault.Caution(d) }), err
}

// cautionsOfTrees returns a caution for each directory the box shares with another box.
func cautionsOfTrees(s *box.Store, b *box.Box) ([]fault.Caution, error) {
	others, err := s.Others(b.Name)
	said, lookErr := storage.SharedTrees(b, others)
	return said, errors.Join(err, lookErr)
}

// cautionsOfFirewalls returns cautions about firewalls of others; nil for a box without a bridge.
func cautionsOfFirewalls(k *netsetup.Kernel, b *box.Box) ([]fault.Caution, error) {
	if !b.Bridged() {
		return nil, nil
	}
	view, err := netsetup.LookFirewalld(b.Profile.Network.Bridge)
	if err != nil {
		return nil, err
	}
	said := passage.Firewalld(b, view)
	f, err := k.Rivals(b.Addr6().IsValid())
	if err != nil {
		return said, err
	}
	external, err := External(b.Profile.Network)
	if err != nil {
		return said, err
	}
	found, err := passage.Cautions(f, b, external, func(string) (*netsetup.FirewalldView, error) { return view, nil })
	for _, c := range found {
		if !slices.Contains(said, c) {
			said = append(said, c)
		}
	}
	return said, err
}
