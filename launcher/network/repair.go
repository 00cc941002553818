package network

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"boxrun/launcher/box"
	"boxrun/launcher/conf"
	"boxrun/launcher/fault"
	"boxrun/netsetup"
)

// Repair puts right what drifted of a box that runs: the shared network, its own rules, the address they lead to, and
// what boxes know of each other. It returns a line for each thing that was out of place.
func Repair(ctx context.Context, s *box.Store, k *netsetup.Kernel, b *box.Box) ([]string, error) {
	if !b.Bridged() {
		return nil, nil
	}
	mended, err := RepairShared(ctx, s, k, b)
	if err != nil {
		return mended, err
	}
	rules, err := RepairRules(s, k, b)
	mended = append(mended, rules...)
	if err != nil {
		return mended, err
	}
	names, err := RepairNames(ctx, s)
	return append(mended, names...), err
}

// RepairShared mends what the box shares with others.
func RepairShared(ctx context.Context, s *box.Store, k *netsetup.Kernel, b *box.Box) ([]string, error) {
	unlock, err := s.LockNetwork(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return Raise(s, k, Of(s, b))
}

// RepairRules mends the box's own rules, and leads them to where it is. The old ones stand until the new ones, in one
// transaction, take their place: a box is never without the rule that drops what is not published.
func RepairRules(s *box.Store, k *netsetup.Kernel, b *box.Box) ([]string, error) {
	moved, err := Moved(b)
	if errors.Is(err, netsetup.ErrNoAddress) {
		return nil, &fault.Problem{Kind: netsetup.ErrNoAddress, Text: b.Name + " has no address inside",
			Hint: fmt.Sprintf("\"boxrun restart %s\" gives it one", b.Name)}
	}
	if err != nil {
		return nil, err
	}
	if moved == "" {
		return mend(k, b.Ports)
	}
	old := b.Ports
	if err := Publish(s, k, b); err != nil {
		return nil, err
	}
	return []string{moved}, leaveVeth(k, old, b.Veth)
}

// leaveVeth takes back what the plan old did to a veth, where the box has another now. The rules of the plan that came
// after have replaced the old ones.
func leaveVeth(k *netsetup.Kernel, old netsetup.Plan, now string) error {
	if old.Hairpin == nil || old.Hairpin.Veth == now {
		return nil
	}
	return netsetup.Plan{Owner: old.Owner, Features: old.Features, Hairpin: old.Hairpin}.Undo(k)
}

// RepairNames mends the boxes' hosts files, when the box is known to be where it is.
func RepairNames(ctx context.Context, s *box.Store) ([]string, error) {
	unlock, err := s.LockNetwork(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return conf.TellNames(s)
}

// Moved says where the box is now when that is not where its rules lead, or that they are for other addresses than the
// host has now; "" when they are right. Rules for an interface that is gone are as right as they can be.
func Moved(b *box.Box) (string, error) {
	link, err := netsetup.BoxLink(b.Init.PID, BoxDevice)
	if err != nil {
		return "", err
	}
	if link.Addr.Addr() == b.Addr && link.Veth == b.Veth {
		return outdated(b)
	}
	return fmt.Sprintf("the box is at %s on %s, its rules led to %s on %s", link.Addr.Addr(), link.Veth, b.Addr, b.Veth), nil
}

// outdated says whether the box's rules would be others if they were made now: the addresses of network.external change
// under a box that runs.
func outdated(b *box.Box) (string, error) {
	rules, err := BoxRules(b)
	if errors.Is(err, fault.ErrInvalid) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	same := func(x, y netsetup.Chain) bool {
		return x.Table == y.Table && x.Name == y.Name && slices.Equal(x.Rules, y.Rules)
	}
	if slices.EqualFunc(netsetup.Ports(rules).Chains, b.Ports.Chains, same) {
		return "", nil
	}
	if n := b.Profile.Network.External; n != "" {
		return fmt.Sprintf("the rules of the box are not for the addresses that %s has now", n), nil
	}
	return "the rules of the box are not those that this boxrun makes", nil
}

// Drift gives all that is out of place of what the box needs on the host. It changes nothing.
func Drift(s *box.Store, k *netsetup.Kernel, b *box.Box) ([]string, error) {
	if !b.Bridged() {
		return nil, nil
	}
	var all []string
	moved, err := Moved(b)
	if errors.Is(err, netsetup.ErrNoAddress) {
		moved, err = fmt.Sprintf("the box has no address inside: \"boxrun restart %s\" gives it one", b.Name), nil
	}
	if err != nil {
		return nil, err
	}
	if moved != "" {
		all = append(all, moved)
	}
	plans, err := PlansOf(s, b)
	if err != nil {
		return all, err
	}
	for _, plan := range plans {
		lines, err := plan.Drift(k)
		if err != nil {
			return all, err
		}
		all = append(all, lines...)
	}
	boxes, err := s.All()
	if errors.Is(err, box.ErrUnreadable) {
		return append(all, err.Error()), nil
	}
	if err != nil {
		return all, err
	}
	names, err := conf.NamesDrift(s, b, boxes)
	if names != "" {
		all = append(all, names)
	}
	return all, err
}

// PlansOf gives the plans that a box needs on the host, in the order of work; none where it is not on a bridge.
func PlansOf(s *box.Store, b *box.Box) ([]netsetup.Plan, error) {
	if !b.Bridged() {
		return nil, nil
	}
	plans := make([]netsetup.Plan, 2, 3)
	for i, file := range []string{HostFile(s), BridgeFile(s, b.Profile.Network.Bridge)} {
		if err := box.ReadJSON(file, &plans[i]); err != nil {
			return nil, err
		}
	}
	return append(plans, b.Ports), nil
}
