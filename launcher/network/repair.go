package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"boxrun/launcher/box"
	"boxrun/launcher/conf"
	"boxrun/launcher/fault"
	"boxrun/launcher/lan"
	"boxrun/netsetup"
	"boxrun/netsetup/dump"
	"boxrun/netsetup/led"
)

// Repair repairs the network of a running box: the network shared with other boxes, the box's own rules, the address in
// the rules, the names boxes know of each other, and the name servers. Repair returns a line for each fault.
func Repair(ctx context.Context, s *box.Store, k *netsetup.Kernel, b *box.Box) ([]string, error) {
	if !b.Bridged() {
		lines, err := lan.Repair(s, k, b)
		servers, serversErr := conf.TellServers(ctx, s, b)
		return append(lines, servers...), cmp.Or(err, serversErr)
	}
	shared, err := RepairShared(ctx, s, k, b)
	if err != nil {
		return shared, err
	}
	rules, err := RepairRules(s, k, new(led.Host), b)
	if err != nil {
		return append(shared, rules...), err
	}
	way, err := lan.Repair(s, k, b)
	rules = append(rules, way...)
	if err != nil {
		return append(shared, rules...), err
	}
	names, err := RepairNames(ctx, s)
	if err != nil {
		return slices.Concat(shared, rules, names), err
	}
	servers, err := conf.TellServers(ctx, s, b)
	return slices.Concat(shared, rules, names, servers), err
}

// RepairShared repairs the network a box shares with other boxes.
func RepairShared(ctx context.Context, s *box.Store, k *netsetup.Kernel, b *box.Box) ([]string, error) {
	unlock, err := s.LockNetwork(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return Raise(s, k, Of(s, b))
}

// RepairRules repairs the box's own rules and leads them to the box's present address, and repairs IPv6 inside the box. New
// rules replace the old rules in a single transaction: a box is never without the rule to drop unpublished traffic. The
// error is ErrNoAddress for a box without an address to publish at: only a restart gives the box a new address. What several
// boxes have in common is looked up once for each Host.
func RepairRules(s *box.Store, k *netsetup.Kernel, h *led.Host, b *box.Box) ([]string, error) {
	seen := look(h, b)[0]
	moved, err := moved(s, b, seen)
	switch {
	case err != nil:
		return nil, err
	case moved == "":
		lines, err := repairPorts(s, k, b)
		if err != nil {
			return nil, err
		}
		if err = seen.DriftErr; err == nil && len(seen.Drift) > 0 {
			err = ensureInside6(b)
		}
		held, heldErr := mistaken(h, b, seen)
		if len(held) > 0 {
			heldErr = forget(b)
		}
		return slices.Concat(lines, seen.Drift, held), cmp.Or(err, heldErr)
	}
	if err := Publish(s, k, b); err != nil {
		return nil, err
	}
	return []string{moved}, nil
}

// forget has the host ask anew for the MAC of the box.
func forget(b *box.Box) error {
	var errs []error
	for _, addr := range b.Addrs() {
		errs = append(errs, led.Forget(dump.OfHost(), b.Profile.Network.Bridge, addr))
	}
	return errors.Join(errs...)
}

// repairPorts repairs the box's own rules and devices.
func repairPorts(s *box.Store, k *netsetup.Kernel, b *box.Box) ([]string, error) {
	changed, err := b.Ports.Reconsider(k)
	if err == nil && changed {
		err = s.Save(b)
	}
	if err != nil {
		return nil, err
	}
	return repair(k, b.Ports)
}

// RepairNames repairs the boxes' hosts files. Callers first make sure of the box's address.
func RepairNames(ctx context.Context, s *box.Store) ([]string, error) {
	unlock, err := s.LockNetwork(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return conf.TellNames(s)
}

// Moved describes why the box's rules are wrong: the box is at another address or veth, or the host's addresses have
// changed. The result is "" for right rules. Rules for a missing external interface count as right, because nothing
// better can be made. The error is ErrNoAddress for a box without an address, or with an address that Publish refuses.
func Moved(s *box.Store, b *box.Box) (string, error) { return moved(s, b, look(new(led.Host), b)[0]) }

// moved is Moved for what a look into the network of the box has seen.
func moved(s *box.Store, b *box.Box, seen netsetup.Seen) (string, error) {
	link, err := seen.Link, seen.LinkErr
	if errors.Is(err, netsetup.ErrNoAddress) {
		return "", noAddress(b, "has no address inside")
	}
	if err == nil {
		err = refuseMove(s, b, link)
	}
	if err != nil {
		return "", err
	}
	if link.Addr.Addr() == b.Addr && link.Veth == b.Veth {
		return outdated(b)
	}
	return fmt.Sprintf("the box is at %s on %s, its rules led to %s on %s", link.Addr.Addr(), link.Veth, b.Addr, b.Veth), nil
}

// outdated describes how the box's rules differ from rules made now; "" for no difference. The addresses of
// network.external can change under a running box.
func outdated(b *box.Box) (string, error) {
	rules, err := BoxRules(b)
	same := func(x, y netsetup.Chain) bool {
		return x.Table == y.Table && x.Name == y.Name && slices.Equal(x.Rules, y.Rules)
	}
	n := b.Profile.Network.External
	switch {
	case errors.Is(err, fault.ErrRefused): // network.external is gone
		return "", nil
	case err != nil:
		return "", err
	case slices.EqualFunc(netsetup.Ports(rules).Chains, b.Ports.Chains, same) &&
		slices.EqualFunc(netsetup.Ports(rules).Chains6, b.Ports.Chains6, same):
		return "", nil
	case n != "":
		return fmt.Sprintf("the rules of the box are not for the addresses that %s has now", n), nil
	}
	return "the rules of the box are not those that this boxrun makes", nil
}
